"""Curvatures of circles, spirals, lines and spheres."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.maps import GROWTH, RADIUS, RATE, sphere, spiral
from networks import rand

from latentjac.geometry import FeatureMap, direction_curvature
from latentjac.geometry.curvature import angle_between


def test_spirals_along_each_axis_at_several_points() -> None:
    x = torch.tensor([[0.2, -1.0], [1.5, 0.4]], dtype=torch.float64)
    found = direction_curvature(FeatureMap(spiral), x, torch.eye(2).double() * 5)
    speed = torch.tensor([1.0, 2.0], dtype=torch.float64) * math.hypot(GROWTH, RATE) * (GROWTH * x).exp()
    torch.testing.assert_close(found.speed, speed, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.turning, torch.full((2, 2), RATE, dtype=torch.float64), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.curvature, RATE / speed, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.stretch, torch.full((2, 2), GROWTH, dtype=torch.float64), rtol=1e-8, atol=0)


def test_circles_on_the_sphere() -> None:
    """A meridian is a great circle; a parallel is a smaller one."""
    found = direction_curvature(
        FeatureMap(sphere), torch.tensor([[0.6, 2.0]], dtype=torch.float64), torch.eye(2).double()
    )
    expected = torch.tensor([1 / RADIUS, 1 / (RADIUS * math.sin(0.6))], dtype=torch.float64)
    torch.testing.assert_close(found.curvature, expected, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.stretch, torch.zeros(2).double(), rtol=0, atol=1e-7)


def test_a_linear_map_does_not_bend() -> None:
    weight = rand(5, 4)
    found = direction_curvature(FeatureMap(lambda x: x @ weight), rand(1, 5), rand(3, 5), step=0.1)
    assert float(found.turning.max()) < 1e-13
    assert float(found.stretch.abs().max()) < 1e-13
    assert found.step == 0.1


def test_a_fixed_direction_has_an_error_of_second_order() -> None:
    x, v = torch.tensor([[0.1, 0.7]], dtype=torch.float64), torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    exact = direction_curvature(FeatureMap(sphere), x, v).turning
    errors = [
        float((direction_curvature(FeatureMap(sphere), x, v, step=h).turning - exact).abs()) for h in (0.02, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


def test_single_precision() -> None:
    x = torch.tensor([[0.6, 2.0]])
    found = direction_curvature(FeatureMap(sphere), x, torch.eye(2))
    assert found.step == pytest.approx(0.0049, abs=1e-4)
    expected = torch.tensor([1 / RADIUS, 1 / (RADIUS * math.sin(0.6))], dtype=torch.float64)
    torch.testing.assert_close(found.curvature, expected, rtol=1e-3, atol=0)


def test_tiny_and_flat_angles() -> None:
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1e-12], [-3.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        angle_between(a, b), torch.tensor([1e-12, math.pi, 0.0], dtype=torch.float64), rtol=1e-9, atol=0
    )
