"""Spectra of pure cosines, constants and white noise."""

from __future__ import annotations

import math

import pytest
import torch
from networks import rand

import latentjac


def cosine(fy: int, fx: int, height: int = 16, width: int = 16) -> torch.Tensor:
    """A plane wave with whole numbers of periods, ``[1, height, width]``."""
    y, x = torch.arange(height).double()[:, None], torch.arange(width).double()[None]
    return torch.cos(2 * math.pi * (fy * y / height + fx * x / width) + 0.3)[None]


@pytest.mark.parametrize(
    ("fy", "fx", "height", "width"), [(0, 3, 16, 16), (3, 4, 16, 16), (8, 8, 16, 16), (2, 3, 8, 24)]
)
def test_a_wave_sits_in_its_ring(fy: int, fx: int, height: int, width: int) -> None:
    found = latentjac.geometry.power_spectrum(cosine(fy, fx, height, width), cutoff=0.3)
    frequency = math.hypot(fy / height, fx / width)
    ring = round(frequency * max(height, width))
    assert float(found.centroid) == pytest.approx(frequency)
    assert float(found.power[ring]) == pytest.approx(1.0)
    assert float(found.power.sum()) == pytest.approx(1.0)
    assert float(found.below) == pytest.approx(float(frequency <= 0.3))
    assert float(found.above) == pytest.approx(float(frequency > 0.3))
    assert abs(float(found.frequencies[ring]) - frequency) <= 0.5 / max(height, width)


def test_mixtures_by_energy_and_over_channels() -> None:
    low, high = cosine(0, 1), cosine(6, 0)
    found = latentjac.geometry.power_spectrum(torch.cat([2 * low, high]))  # energies 4 and 1, cutoff 0.125
    assert float(found.below) == pytest.approx(0.8)
    assert float(found.centroid) == pytest.approx(0.8 / 16 + 0.2 * 6 / 16)


def test_white_noise_is_flat() -> None:
    found = latentjac.geometry.power_spectrum(rand(400, 3, 16, 16))
    density = found.density.mean(0)
    torch.testing.assert_close(density, torch.ones_like(density), rtol=0, atol=0.05)
    axis = torch.fft.fftfreq(16, dtype=torch.float64)
    radius = torch.hypot(axis[:, None], axis[None])
    assert float(found.centroid.mean()) == pytest.approx(float(radius.mean()), rel=5e-3)
    assert float(found.below.mean()) == pytest.approx(float((radius <= 0.125).double().mean()), rel=0.05)


def test_length_and_sign_do_not_matter_and_shapes_stay() -> None:
    v = rand(2, 5, 3, 8, 8)
    found, scaled = latentjac.geometry.power_spectrum(v), latentjac.geometry.power_spectrum(-7 * v)
    torch.testing.assert_close(found.power, scaled.power)
    assert found.centroid.shape == found.below.shape == (2, 5)
    assert found.power.shape == found.density.shape == (2, 5, len(found.frequencies))
    torch.testing.assert_close(latentjac.geometry.power_spectrum(v[1, 2]).density, found.density[1, 2])


def test_a_constant_has_frequency_zero() -> None:
    found = latentjac.geometry.power_spectrum(torch.ones(3, 8, 8))
    assert float(found.centroid) == pytest.approx(0.0, abs=1e-15)
    assert float(found.density[0]) == pytest.approx(64.0)
