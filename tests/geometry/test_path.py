"""Lengths and turns of walks on spheres and spirals, and of a walk of edits."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.maps import GROWTH, RADIUS, RATE, sphere, spiral
from PIL import Image

import latentjac
from latentjac.geometry import FeatureMap, measure_path


def line(start: list[float], end: list[float], n: int) -> torch.Tensor:
    a, b = torch.tensor(start, dtype=torch.float64), torch.tensor(end, dtype=torch.float64)
    return a + torch.linspace(0, 1, n).double()[:, None] * (b - a)


def test_a_parallel_of_the_sphere() -> None:
    found = measure_path(FeatureMap(sphere), line([0.6, 0.0], [0.6, 2.0], 6))
    assert float(found.length) == pytest.approx(2.0 * RADIUS * math.sin(0.6))
    assert float(found.chord) == pytest.approx(2 * RADIUS * math.sin(0.6) * math.sin(1.0))
    assert float(found.straightness) == pytest.approx(math.sin(1.0))
    torch.testing.assert_close(found.turning, torch.full((4,), 0.4, dtype=torch.float64))  # 2 radians in 5 segments
    torch.testing.assert_close(found.euclidean, torch.full((5,), 0.4, dtype=torch.float64))


def test_length_converges_in_second_order() -> None:
    exact = math.hypot(GROWTH, RATE) / GROWTH * (math.exp(GROWTH * 4) - 1)
    walks = [line([0.0], [4.0], n) for n in (9, 17)]
    errors = [abs(float(measure_path(FeatureMap(spiral), walk).length) - exact) for walk in walks]
    assert errors[1] < 2e-3 * exact
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.02)


def test_several_walks_at_once() -> None:
    walks = torch.stack([line([0.6, 0.0], [0.9, 1.0], 4), line([1.0, 0.0], [2.0, 0.0], 4)])
    features = FeatureMap(sphere, points_at_once=4)
    found = measure_path(features, walks, batched=True)
    for i, walk in enumerate(walks):
        alone = measure_path(features, walk)
        for name in ("lengths", "euclidean", "turning", "chord", "length"):
            torch.testing.assert_close(getattr(found, name)[i], getattr(alone, name))
    assert float(found.length[1]) == pytest.approx(RADIUS)  # a meridian: its length is exact


def test_standing_still_has_no_length() -> None:
    found = measure_path(FeatureMap(sphere), line([0.6, 0.0], [0.6, 0.0], 3))
    assert (float(found.length), float(found.turning)) == (0.0, 0.0)


def test_the_walk_of_an_edit(tiny_model) -> None:
    """The pullback length is about what the features travel, and neither is shorter than the straight way."""
    point = latentjac.invert(tiny_model, Image.new("RGB", (16, 16), "orange"), 10).at(0.6)
    basis = latentjac.local_basis(tiny_model, point, k=2)
    edit = latentjac.edit(tiny_model, point, basis.v, [0.0, 0.1, 0.2, 0.3, 0.4])
    features = FeatureMap.at(tiny_model, point, "mid")
    found = measure_path(features, edit.points, batched=True)
    values = features.values(edit.points.flatten(0, 1)).unflatten(0, (2, 5)).flatten(2)
    travelled = (values[:, 1:] - values[:, :-1]).norm(dim=2)
    torch.testing.assert_close(found.lengths, travelled, rtol=1e-3, atol=0)
    assert (found.chord <= found.length * (1 + 1e-3)).all()
