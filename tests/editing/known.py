"""Denoisers whose walks have closed forms, in float64."""

from __future__ import annotations

import math

import torch
from networks import build_scheduler, point_at, rand

import latentjac
from latentjac.models import Model


class Network(torch.nn.Module):
    """A feature map ``mid`` and a head on top of it."""

    def __init__(self, size: int, mid: torch.nn.Module, head: torch.nn.Module) -> None:
        super().__init__()
        self.config = {"sample_size": size, "in_channels": 3}
        self.mid, self.head = mid, head

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, return_dict: bool = False) -> tuple:
        return (self.head(self.mid(sample)),)


class Mix(torch.nn.Module):
    """A linear map of each pixel's channels plus ``bend`` times their squares: no pixel sees another."""

    def __init__(self, bend: float = 0.0) -> None:
        super().__init__()
        self.bend = bend
        self.mix = torch.nn.Parameter(rand(3, 3, seed=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,bjhw->bihw", self.mix, x) + self.bend * x**2


class OntoSphere(torch.nn.Module):
    """``x / |x|``: its geodesics are great circles."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


class Turning(torch.nn.Module):
    """Two features that are large and turn with the sample in six dimensions, and four that are small."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, rest = x.flatten(1)[:, :1], x.flatten(1)[:, 1:2], x.flatten(1)[:, 2:]
        large = [torch.sin(a + b), torch.cos(a + b), torch.sin(a - 0.5 * b), torch.cos(a - 0.5 * b), a, b]
        return torch.cat([3 * torch.cat(large, 1), 0.1 * rest[:, :6]], 1).view(x.shape)


class Diagonal(torch.nn.Module):
    """A factor for each value."""

    def __init__(self, factors: torch.Tensor) -> None:
        super().__init__()
        self.factors = torch.nn.Parameter(factors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factors * x


def convolution(seed: int) -> torch.nn.Conv2d:
    layer = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False).double()
    layer.weight.data = rand(3, 3, 3, 3, seed=seed) / 5
    return layer


def model_of(network: torch.nn.Module, prediction_type: str = "epsilon") -> Model:
    return Model(network, build_scheduler(prediction_type=prediction_type), name="known")


def pixelwise(bend: float = 0.0, size: int = 8) -> Model:
    """A denoiser in which every pixel is alone."""
    return model_of(Network(size, torch.nn.Identity(), Mix(bend)))


def linear(size: int = 6) -> Model:
    """Two convolutions without anything between them."""
    return model_of(Network(size, convolution(1), convolution(2)))


def point_for(model: Model, seed: int = 2) -> latentjac.Point:
    """A noisy sample in the middle of a 10-step grid."""
    return point_at(rand(1, *model.sample_shape, seed=seed))


def sigma_at(model: Model, timestep: int = 599) -> float:
    return math.sqrt(1 - float(model.scheduler.alphas_cumprod.double()[timestep]))


def kind(method: latentjac.editing.Method) -> str:
    """What tests of a method are called."""
    return type(method).__name__


def unit(*shape: int, seed: int = 3) -> torch.Tensor:
    """A repeatable unit direction."""
    v = rand(*shape, seed=seed)
    return v / v.norm()
