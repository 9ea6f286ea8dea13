"""Linearity of maps whose deviation from their linearization is known."""

from __future__ import annotations

import pytest
import torch
from editing.known import pixelwise, point_for, unit
from geometry.maps import square
from networks import rand

from latentjac.geometry import FeatureLinearity, FeatureMap, feature_linearity, measure_linearity

LENGTHS = (0.01, 0.1, 1.0, 10.0)


def test_a_linear_map_is_linear_at_any_length() -> None:
    weight = rand(6, 4)
    found = feature_linearity(FeatureMap(lambda x: x @ weight + 3), rand(1, 6), rand(2, 6, seed=2), LENGTHS)
    for measure in (found.norm_ratio, found.cosine):
        torch.testing.assert_close(measure, torch.ones(2, 4).double(), rtol=0, atol=1e-12)
    assert float(found.deviation.max()) < 1e-11
    assert found.radius().tolist() == [10.0, 10.0]


def test_a_quadratic_map() -> None:
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    found = feature_linearity(FeatureMap(square), x, torch.tensor([[-4.0]], dtype=torch.float64), LENGTHS)
    ways = -torch.tensor(LENGTHS, dtype=torch.float64)  # unit direction: -1
    slope, here = 3 + 4 * x, square(x)
    torch.testing.assert_close(found.deviation[:, 0], (2 * ways**2 / (ways * slope)).abs(), rtol=1e-10, atol=1e-12)
    expected = (square(x + ways) / (here + ways * slope)).abs()
    torch.testing.assert_close(found.norm_ratio[:, 0], expected, rtol=1e-10, atol=0)
    sign = torch.sign(square(x + ways) * (here + ways * slope))
    torch.testing.assert_close(found.cosine[:, 0], sign, rtol=1e-12, atol=0)
    assert (sign < 0).any()
    # 2 |lambda| / slope <= 0.1 up to 0.25 and up to 0.55.
    assert found.radius(0.1).tolist() == [[0.1], [0.1]]
    assert found.radius(0.2).tolist() == [[0.1], [1.0]]
    assert found.radius(1e-3).tolist() == [[0.0], [0.0]]


def test_the_radius_ends_where_the_deviation_first_exceeds_the_tolerance() -> None:
    deviation = torch.tensor([[0.01, 0.5, 0.02], [0.3, 0.01, 0.01], [0.01, 0.02, 0.03]], dtype=torch.float64)
    found = FeatureLinearity((1.0, 2.0, 3.0), deviation, deviation, deviation)
    assert found.radius(0.1).tolist() == [1.0, 0.0, 3.0]


def test_every_point_and_direction_is_its_own(tiny_model, tiny_point) -> None:
    features = FeatureMap.at(tiny_model, tiny_point, "mid")
    x = torch.cat([tiny_point.sample, 0.3 * tiny_point.sample])
    v = rand(2, 2, 3, 16, 16)
    found = feature_linearity(features, x, v, (0.1, 2.0))
    alone = feature_linearity(features, x[1:], v[1, 1:], (2.0,))
    for name in ("norm_ratio", "cosine", "deviation"):
        torch.testing.assert_close(getattr(alone, name)[0, 0], getattr(found, name)[1, 1, 1], rtol=1e-9, atol=0)
    assert (found.deviation[..., 0] < found.deviation[..., 1]).all()


def test_a_map_that_does_not_listen() -> None:
    found = feature_linearity(FeatureMap(lambda x: 0 * x + 1), rand(1, 3), rand(1, 3), (1.0,))
    assert found.deviation.item() == 0.0
    assert found.norm_ratio.item() == 1.0


def test_noise_of_a_linear_network_is_linear_everywhere() -> None:
    model = pixelwise()
    v = torch.stack([unit(3, 8, 8), unit(3, 8, 8, seed=4)])
    for entry in measure_linearity(model, point_for(model), v, 1.0, 0.1):
        assert entry.radius == 2.0
        assert entry.cosine == pytest.approx([1.0] * 5)
        assert entry.deviation == pytest.approx([0.0] * 5, abs=1e-10)


def test_curvature_limits_the_radius() -> None:
    radii = []
    for bend in (0.01, 1.0, 30.0):
        model = pixelwise(bend)
        radii.append(measure_linearity(model, point_for(model), unit(1, 3, 8, 8), 1.0, 0.1)[0].radius)
    assert radii[0] >= radii[1] > radii[2]
