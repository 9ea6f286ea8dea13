"""Intervals for statistics of samples that are not means over them: means and correlations over pairs of samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import check_callable, check_dense, check_int, check_number, check_tensor
from latentjac.geometry.intervals import SampleMean
from latentjac.public import public
from latentjac.statistics import student_quantile

MOST_SAMPLES = 65_536  # each of them is left out once


@public
def jackknife(
    statistic: Callable[[torch.Tensor], torch.Tensor], samples: int, *, confidence: float = 0.95
) -> SampleMean:
    """A statistic of independent samples with an interval from leaving each of them out.

    The variance is ``(N - 1) / N`` times the sum of squares of the N values without one sample about their mean (Tukey
    1958), which is too large rather than too small (Efron & Stein 1981); the interval is Student's with N - 1 degrees
    of freedom. Whatever samples share is accounted for, because a sample leaves with all that belongs to it: in a table
    of pairs, its row and its column.

    Args:
        statistic: Maps the numbers of the samples that are kept, ascending integers ``[n]``, to values ``[...]``;
            smooth in each sample's part, as means and correlations are and quantiles are not.
        samples: Their number N, at most ``MOST_SAMPLES``.
        confidence: In (0, 1).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 3 samples, or a value is not finite.
    """
    check_callable("jackknife", "statistic", statistic)
    samples = check_int("jackknife", "samples", samples, 3, MOST_SAMPLES)
    confidence = check_number("jackknife", "confidence", confidence, 0, 1)
    everyone = torch.arange(samples, device="cpu")

    def value_of(kept: torch.Tensor) -> torch.Tensor:
        return check_tensor("jackknife", "value of statistic", statistic(kept)).double()

    value = value_of(everyone)
    without = torch.stack([value_of(everyone[everyone != i]) for i in range(samples)])
    error = ((samples - 1) * without.var(0, correction=0)).sqrt()
    margin = student_quantile(confidence, samples - 1) * error
    return SampleMean(value, value - margin, value + margin, samples, confidence)


@public
def pair_mean(table: Any, *, confidence: float = 0.95) -> SampleMean:
    """Mean over all pairs of different samples, with an interval for samples not yet seen.

    Entries of one row share a sample and are not independent: an interval from their number would be too narrow.

    Args:
        table: One entry for each ordered pair, ``[N, N, ...]``, such as :func:`pairwise_distances` gives or differences
            of two of them; the diagonal does not count.
        confidence: In (0, 1).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the table is not square or has fewer than 3 samples.
    """
    table = _table("pair_mean", table, 3).double()
    return jackknife(lambda kept: pairs_of(table, kept).mean(0), len(table), confidence=confidence)


@public
def pairs_of(table: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Entries ``[n (n - 1), ...]`` of a table ``[N, N, ...]`` for ordered pairs of different samples among n.

    Args:
        table: ``[N, N, ...]``.
        kept: Numbers of the n samples, integers ``[n]``.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the table is not square, or a number is out of range.
    """
    table, kept = _table("pairs_of", table), check_dense("pairs_of", "kept", kept)
    if kept.ndim != 1 or kept.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise ValueError(f"pairs_of: kept must be integers [n], got {list(kept.shape)} {kept.dtype}")
    kept = kept.to(table.device, torch.int64)
    if not ((kept >= 0) & (kept < len(table))).all():
        raise ValueError(f"pairs_of: kept must hold numbers in [0, {len(table)}), got others")
    return table[kept][:, kept][~torch.eye(len(kept), dtype=torch.bool, device=table.device)]


@public
def rank_correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Spearman's rho: the correlation of ranks, with average ranks for ties.

    Args:
        a: Values ``[n]``.
        b: As many.

    Returns:
        float64 scalar in [-1, 1]; 1 for any relation that only rises.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If sizes differ, there are fewer than 2 values, or one side is constant.
    """
    a, b = (check_tensor("rank_correlation", name, v) for name, v in (("a", a), ("b", b)))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"rank_correlation: a and b must be [n] with n >= 2 each, got {list(a.shape)} and {list(b.shape)}"
        )
    centred = [ranks - ranks.mean() for ranks in (_ranks(a), _ranks(b))]
    sizes = math.prod(float(ranks.norm()) for ranks in centred)
    if sizes == 0:
        raise ValueError("rank_correlation: a and b must not be constant, got one value alone")
    return ((centred[0] @ centred[1]) / sizes).clamp(-1, 1)


def _table(name: str, table: Any, least: int = 1) -> torch.Tensor:
    table = check_tensor(name, "table", table)
    if table.ndim < 2 or table.shape[0] != table.shape[1] or len(table) < least:
        raise ValueError(f"{name}: table must have shape [N, N, ...] with N >= {least}, got {list(table.shape)}")
    return table


def _ranks(values: torch.Tensor) -> torch.Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]
