"""Edits: distances, signs, the reconstruction at 0, and the measured range of linearity."""

from __future__ import annotations

import math

import pytest
import torch
from networks import build_scheduler

import latentjac
from latentjac.edit.guidance import x_space_guidance
from latentjac.edit.linearity import LENGTHS, measure_linearity
from latentjac.models import PixelCodec
from latentjac.models.model import Model


class Known(torch.nn.Module):
    """A denoiser with a known formula: a linear map of each pixel's channels plus ``bend`` times their squares."""

    def __init__(self, bend: float) -> None:
        super().__init__()
        self.config = {"sample_size": 8, "in_channels": 3}
        self.bend = bend
        generator = torch.Generator().manual_seed(0)
        self.mix = torch.nn.Parameter(torch.randn(3, 3, generator=generator, dtype=torch.float64))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, return_dict: bool = False) -> tuple:
        out = torch.einsum("ij,bjhw->bihw", self.mix, sample)
        return (out + self.bend * sample**2,)


def known_model(bend: float) -> Model:
    return Model("known", Known(bend), build_scheduler(), PixelCodec(8))


@pytest.fixture
def point() -> latentjac.Point:
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return latentjac.Point(x, 599, 10)


@pytest.fixture
def directions() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def sigma_at(model: Model, timestep: int) -> float:
    return math.sqrt(1 - float(model.alphas_cumprod[timestep]))


def test_distance_is_the_way_travelled_in_noise_deviations(tiny_model, tiny_point) -> None:
    v = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    v /= v.norm()
    sigma = sigma_at(tiny_model, tiny_point.timestep)
    one = torch.ones(1, dtype=torch.float64)
    end, gains = x_space_guidance(tiny_model, tiny_point, v, 0.7 * one, 0.1 * one, 1, sigma)
    assert float((end - tiny_point.sample).norm()) == pytest.approx(0.7 * sigma, rel=1e-9)
    assert gains.shape == (1, 1)


def test_guidance_follows_the_formula(point, directions) -> None:
    """For a linear network, every step is the same multiple of ``A v``."""
    model = known_model(0.0)
    v = directions[:1] / directions[0].norm()
    result = latentjac.edit(model, point, v, distance=2.0, num_steps=4)
    image_of_v = torch.einsum("ij,bjhw->bihw", model.network.mix, v)
    expected = point.sample + 2.0 * sigma_at(model, 599) * image_of_v / image_of_v.norm()
    torch.testing.assert_close(result.points[0], expected)


def test_signs_walk_opposite_ways(point, directions) -> None:
    model = known_model(0.0)
    result = latentjac.edit(model, point, directions, distance=[-2.0, 2.0])
    back, forth = (result.points[:, j] - point.sample for j in (0, 1))
    torch.testing.assert_close(back, -forth)


def test_zero_is_the_reconstruction(tiny_model, tiny_point) -> None:
    v = torch.randn(3, 16, 16, dtype=torch.float64)
    result = latentjac.edit(tiny_model, tiny_point, v, distance=[0.0, 1.0])
    expected = latentjac.sample(tiny_model, tiny_point, output_type="latent")
    torch.testing.assert_close(result.samples[0, 0], expected[0])
    assert torch.equal(result.points[0, 0], tiny_point.sample[0])
    assert (result.samples[0, 1] - expected[0]).abs().max() > 1e-3


def test_many_directions_at_once_are_each_alone(tiny_model, tiny_point) -> None:
    v = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    together = latentjac.edit(tiny_model, tiny_point, v, distance=[-1.0, 2.0], num_steps=20)
    assert len(together.images) == 6
    assert together.image(1, 1) is together.images[3]
    alone = latentjac.edit(tiny_model, tiny_point, v[1], distance=2.0, num_steps=together.num_steps)
    torch.testing.assert_close(together.samples[1, 1], alone.samples[0, 0])


def test_length_of_a_direction_does_not_matter(tiny_model, tiny_point) -> None:
    v = torch.randn(3, 16, 16, dtype=torch.float64)
    short, long = (latentjac.edit(tiny_model, tiny_point, f * v, distance=1.0) for f in (1e-3, 50.0))
    torch.testing.assert_close(short.samples, long.samples)


def test_a_linear_network_is_linear_everywhere(point, directions) -> None:
    for entry in measure_linearity(known_model(0.0), point, directions, 1.0, 0.1):
        assert entry.radius == LENGTHS[-1]
        assert entry.cosine == pytest.approx([1.0] * len(LENGTHS))


def test_curvature_limits_the_radius(point, directions) -> None:
    radii = [
        measure_linearity(known_model(bend), point, directions / 10, 1.0, 0.1)[0].radius for bend in (0.01, 1.0, 30.0)
    ]
    assert radii[0] >= radii[1] > radii[2]


def test_steps_never_leave_the_linear_range(point, directions) -> None:
    result = latentjac.edit(known_model(30.0), point, directions, distance=3.0, num_steps=1)
    radius = min(entry.radius for entry in result.linearity)
    assert 3.0 / result.num_steps <= radius < 3.0


def test_directions_the_network_does_not_hear_are_refused(point, directions) -> None:
    model = known_model(0.0)
    with torch.no_grad():
        model.network.mix.zero_()
    with pytest.raises(ValueError, match="no response to direction 0"):
        latentjac.edit(model, point, directions, distance=1.0)


def test_tiny_directions_are_directions(tiny_model, tiny_point) -> None:
    single = latentjac.load(tiny_model.network.float(), build_scheduler())
    at = latentjac.Point(tiny_point.sample.float(), 599, 10)
    v = torch.randn(3, 16, 16)
    plain, tiny = (latentjac.edit(single, at, f * v, distance=1.0, num_steps=4) for f in (1.0, 1e-30))
    torch.testing.assert_close(plain.samples, tiny.samples, rtol=1e-3, atol=1e-3)
