"""Intervals over samples of statistics of pairs: they hold the truth as often as they say, where simple ones do not."""

from __future__ import annotations

import math

import pytest
import torch
from networks import rand

from latentjac.geometry import jackknife, pair_mean, pairs_of, rank_correlation, sample_mean


def tables(samples: int, repeats: int, of_samples: float, of_pairs: float) -> torch.Tensor:
    """``[N, N, repeats]``: 3 plus what two samples bring and what belongs to the pair alone."""
    own = of_samples * rand(samples, repeats, seed=1)
    noise = of_pairs * rand(samples, samples, repeats, seed=2)
    return 3 + own[:, None] + own[None] + (noise + noise.transpose(0, 1)) / math.sqrt(2)


def coverage(low: torch.Tensor, high: torch.Tensor, truth: float) -> float:
    return float(((low < truth) & (high > truth)).double().mean())


def test_of_the_mean_is_student() -> None:
    values = rand(7, 3)
    found, known = jackknife(lambda kept: values[kept].mean(0), 7, confidence=0.9), sample_mean(values, confidence=0.9)
    for name in ("value", "low", "high"):
        torch.testing.assert_close(getattr(found, name), getattr(known, name))
    assert (found.n, found.confidence) == (7, 0.9)


@pytest.mark.parametrize("samples", [4, 8])
def test_covers_the_mean_over_pairs_that_share_samples(samples: int) -> None:
    table = tables(samples, 4000, of_samples=1, of_pairs=0.3)
    found = pair_mean(table)
    assert coverage(found.low, found.high, 3) == pytest.approx(0.95, abs=0.012)
    upper = table[tuple(torch.triu_indices(samples, samples, 1))]
    torch.testing.assert_close(found.value, upper.mean(0))
    naive = sample_mean(upper)
    assert coverage(naive.low, naive.high, 3) < 0.75


def test_is_wide_enough_where_pairs_are_independent() -> None:
    found = pair_mean(tables(8, 4000, of_samples=0, of_pairs=1))
    assert 0.95 < coverage(found.low, found.high, 3) < 0.999


def test_covers_a_rank_correlation_over_pairs() -> None:
    def population(samples: int, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
        places, own = rand(repeats, samples, 3, seed=3), 0.5 * rand(repeats, samples, seed=4)
        distances = torch.cdist(places, places)
        return distances, -distances + own[:, :, None] + own[:, None] + rand(repeats, samples, samples, seed=5)

    def transformed(distances: torch.Tensor, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return rank_correlation(pairs_of(distances, kept), pairs_of(values, kept)).atanh()

    many = population(600, 1)
    truth = float(transformed(many[0][0], many[1][0], torch.arange(600)))
    assert -0.8 < truth < -0.6
    ends = [
        jackknife(lambda kept, d=d, v=v: transformed(d, v, kept), 8)  # type: ignore[misc]
        for d, v in zip(*population(8, 200), strict=True)
    ]
    inside = coverage(torch.stack([e.low for e in ends]), torch.stack([e.high for e in ends]), truth)
    assert 0.92 < inside <= 1


def test_pairs_are_those_of_different_kept_samples() -> None:
    table = torch.arange(16.0).reshape(4, 4)
    assert pairs_of(table, torch.tensor([0, 2, 3])).tolist() == [2, 3, 8, 11, 12, 14]
    assert pairs_of(table[..., None].expand(4, 4, 5), torch.tensor([1, 2])).shape == (2, 5)
    # The diagonal does not count.
    assert float(pair_mean(table + 100 * torch.eye(4)).value) == float(pair_mean(table).value)


def test_rank_correlation() -> None:
    x = rand(50)
    assert float(rank_correlation(x, x.exp())) == pytest.approx(1)
    assert float(rank_correlation(x, -(x**3))) == pytest.approx(-1)
    stats = pytest.importorskip("scipy.stats")
    for a, b in ((x, x + rand(50, seed=2)), (x.round(), (x + rand(50, seed=2)).round())):  # the second has ties
        assert float(rank_correlation(a, b)) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_refusals() -> None:
    with pytest.raises(TypeError, match="jackknife: statistic must be callable, got int"):
        jackknife(3, 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jackknife: samples must be at least 3, got 2"):
        jackknife(lambda kept: torch.ones(1), 2)
    with pytest.raises(ValueError, match="jackknife: value of statistic must be finite, got NaN or Inf"):
        jackknife(lambda kept: torch.tensor(torch.inf), 5)
    with pytest.raises(ValueError, match=r"pair_mean: table must have shape \[N, N, ...\] with N >= 3, got \[2, 2\]"):
        pair_mean(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"n >= 2 each, got \[3\] and \[4\]"):
        rank_correlation(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="must not be constant"):
        rank_correlation(torch.ones(3), torch.arange(3.0))
