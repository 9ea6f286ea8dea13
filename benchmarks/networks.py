"""The networks that are measured, cut off at their middle block, with a point each.

`sd15` and `ddpm256` have the shapes of Stable Diffusion 1.5 and of google/ddpm-celebahq-256 with random weights: what a
pass costs depends on shapes alone. What a basis costs depends on the spectrum too, so for bases they are only examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel

import latentjac
from latentjac.models.layers import Tap

Tensor = torch.Tensor
NAMES = ("faces", "unet", "sd15", "ddpm256")


@dataclass(frozen=True)
class Problem:
    """A feature map at a point.

    Attributes:
        network: The whole network.
        f: Its middle block's output, of ``(x, *constants)``.
        x: The point, ``[1, ...]``.
        constants: Timestep, and text embeddings where the network takes them.
    """

    network: torch.nn.Module
    f: Callable[..., Tensor]
    x: Tensor
    constants: tuple[Tensor, ...]

    def batch(self, count: int) -> tuple[Tensor, ...]:
        """Arguments of a plain forward of ``count`` images."""
        x = torch.randn(count, *self.x.shape[1:], device=self.x.device, dtype=self.x.dtype)
        return x, *(c.expand(count, *c.shape[1:]) if c.dim() else c for c in self.constants)


def network(name: str, quick: bool = False) -> torch.nn.Module:
    """One of ``NAMES``; quick: narrow, with the same kinds of layers (the built-in one stays as it is)."""
    if name == "faces":
        return latentjac.load("faces").network
    torch.manual_seed(0)
    build: Callable[..., Any] = {"unet": _unet, "sd15": _sd15, "ddpm256": _ddpm256}[name]
    return build(quick).eval().requires_grad_(False)


def problem(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32, quick: bool = False) -> Problem:
    """A network at noise, timestep 500."""
    net = network(name, quick).to(device, dtype)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    size, channels = net.config.sample_size, net.config.in_channels
    x, constants = draw(1, channels, size, size), (torch.tensor(500, device=device),)
    if name == "sd15":
        constants = (*constants, draw(1, 77, net.config.cross_attention_dim))
    return Problem(net, Tap(net, "mid_block"), x, constants)


def _unet(quick: bool) -> UNet2DModel:
    return UNet2DModel(
        sample_size=32 if quick else 64,
        block_out_channels=(32, 32, 64) if quick else (64, 128, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def _sd15(quick: bool) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8 if quick else 64,
        block_out_channels=(32, 64, 64, 64) if quick else (320, 640, 1280, 1280),
        cross_attention_dim=32 if quick else 768,
        attention_head_dim=8,
    )


def _ddpm256(quick: bool) -> UNet2DModel:
    return UNet2DModel(
        sample_size=32 if quick else 256,
        block_out_channels=(32, 32, 32, 32, 64, 64) if quick else (128, 128, 256, 256, 512, 512),
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        layers_per_block=2,
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
