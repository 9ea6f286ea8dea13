"""Means over samples with confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.arguments import check_choice, check_generator, check_int, check_left, check_number, check_tensor
from latentjac.public import public
from latentjac.statistics import student_quantile

METHODS = ("student", "bootstrap")
MOST_RESAMPLES = 10_000_000


@dataclass(frozen=True)
class SampleMean:
    """Mean or another statistic of independent samples, and an interval for that of all there could be.

    Attributes:
        value: Mean or other statistic, float64 ``[...]``.
        low: Lower end of the interval.
        high: Upper end.
        n: Number of samples.
        confidence: Probability that the interval is meant to have, for each entry by itself.
    """

    value: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    n: int
    confidence: float

    def __str__(self) -> str:
        if self.value.ndim:
            return f"{list(self.value.shape)} means over {self.n} samples"
        return f"{float(self.value):.4g} [{float(self.low):.4g}, {float(self.high):.4g}] over {self.n} samples"


@public
def sample_mean(
    values: torch.Tensor,
    method: str = "student",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    generator: torch.Generator | None = None,
) -> SampleMean:
    """Mean over samples with a confidence interval.

    Args:
        values: One entry a sample in dimension 0, ``[N, ...]``. The samples must be independent; distances of all pairs
            of samples are not.
        method: ``"student"`` (Student's t, right for normal values) or ``"bootstrap"`` (percentiles of means of
            resampled samples, Efron 1979; too narrow below about 20 samples).
        confidence: In (0, 1).
        resamples: With ``"bootstrap"``, how many sets of samples are drawn, at most ``MOST_RESAMPLES``.
        generator: With ``"bootstrap"``, source of the draws; seeded with 0 by default.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 2 samples, or an argument is out of range.
    """
    values = check_tensor("sample_mean", "values", values).double()
    if values.ndim == 0 or len(values) < 2:
        raise ValueError(f"sample_mean: values must hold at least 2 samples, got shape {list(values.shape)}")
    method = check_choice("sample_mean", "method", method, METHODS)
    confidence = check_number("sample_mean", "confidence", confidence, 0, 1)
    resamples = check_int("sample_mean", "resamples", resamples, 2, MOST_RESAMPLES)
    check_generator("sample_mean", generator)
    mean = values.mean(0)
    if method == "student":
        check_left("sample_mean", "resamples", resamples, 2000, "unless method='bootstrap'")
        check_left("sample_mean", "generator", generator, None, "unless method='bootstrap'")
        margin = student_quantile(confidence, len(values) - 1) * values.std(0) / math.sqrt(len(values))
        return SampleMean(mean, mean - margin, mean + margin, len(values), confidence)
    low, high = _bootstrap(values, confidence, resamples, generator)
    return SampleMean(mean, low, high, len(values), confidence)


def _bootstrap(values: torch.Tensor, confidence: float, resamples: int, generator: Any) -> tuple[torch.Tensor, ...]:
    generator = generator or torch.Generator().manual_seed(0)
    n = len(values)
    # How often each sample is drawn: a mean of any shape is then one product.
    drawn = torch.randint(n, (resamples, n), generator=generator, device=generator.device).to(values.device)
    counts = torch.zeros(resamples, n, dtype=values.dtype, device=values.device)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=values.dtype))
    means = (counts @ values.reshape(n, -1) / n).reshape(resamples, *values.shape[1:])
    tail = (1 - confidence) / 2
    return torch.quantile(means, tail, dim=0), torch.quantile(means, 1 - tail, dim=0)
