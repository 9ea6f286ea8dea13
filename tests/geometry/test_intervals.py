"""Quantiles against SciPy's, and intervals that hold the truth as often as they say."""

from __future__ import annotations

import pytest
import torch
from networks import rand

from latentjac.geometry import sample_mean
from latentjac.statistics import student_quantile


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_quantiles_of_students_distribution(confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (1, 2, 3, 4, 5, 10, 31, 200):
        assert student_quantile(confidence, freedom) == pytest.approx(
            stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9
        )


def test_student_covers_the_mean_of_five_normal_values() -> None:
    found = sample_mean(3 + 2 * rand(5, 4000), confidence=0.9)
    inside = ((found.low < 3) & (found.high > 3)).double().mean()
    assert float(inside) == pytest.approx(0.9, abs=0.015)  # three standard errors
    assert found.n == 5


def test_bootstrap_covers_the_mean_of_skewed_values() -> None:
    values = torch.distributions.Exponential(torch.tensor(1.0, dtype=torch.float64))
    torch.manual_seed(0)
    found = sample_mean(values.sample((60, 1000)), "bootstrap", confidence=0.9, resamples=400)
    inside = ((found.low < 1) & (found.high > 1)).double().mean()
    assert 0.84 < float(inside) < 0.92  # percentile intervals of skewed values are known to be a little narrow


def test_bootstrap_is_seeded_and_agrees_with_student() -> None:
    values = rand(200, 2, 3)
    student, one, two = sample_mean(values), *(sample_mean(values, "bootstrap") for _ in range(2))
    assert torch.equal(one.low, two.low)
    other = sample_mean(values, "bootstrap", generator=torch.Generator().manual_seed(5))
    assert not torch.equal(one.low, other.low)
    torch.testing.assert_close(one.value, values.mean(0))
    torch.testing.assert_close(one.high - one.low, student.high - student.low, rtol=0.1, atol=0)
    assert one.low.shape == (2, 3)


def test_text() -> None:
    assert str(sample_mean(torch.tensor([1.0, 3.0]))) == "2 [-10.71, 14.71] over 2 samples"
    assert str(sample_mean(rand(4, 2))) == "[2] means over 4 samples"
