"""Curves through means over samples, and ratios of means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from latentjac.geometry import sample_mean
from latentjac.study.finding import Axes, Curve


def level_axes(y: str, title: str = "", *, y_log: bool = False) -> Axes:
    """Axes of a quantity over noise levels, from noise at the left to the image at the right."""
    return Axes("noise level t, from noise to image", y, title, y_log=y_log, falling=True)


def mean_curve(label: str, axes: Axes, x: Sequence[float], values: torch.Tensor, *, geometric: bool = False) -> Curve:
    """The mean over independent samples at every position, with Student's interval.

    Args:
        label: For the legend.
        axes: Where it is drawn.
        x: L positions.
        values: ``[N, L]``, one row a sample.
        geometric: Means of the logarithms of positive values, for quantities that samples change by factors.
    """
    mean = sample_mean(values.double().log() if geometric else values)
    ends = (mean.value, mean.low, mean.high)
    return Curve(label, axes, tuple(x), *(tuple((e.exp() if geometric else e).tolist()) for e in ends))


def mean_ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> tuple[float, tuple[float, float]]:
    """Geometric mean of the ratio of two positive quantities of the same samples, with its 95% interval.

    The interval is Student's for the mean of the logarithms: pairing takes out what samples differ by, and a ratio and
    its inverse come out alike.

    Args:
        numerator: ``[N]``.
        denominator: ``[N]``.
    """
    mean = sample_mean((numerator.double() / denominator.double()).log())
    return math.exp(mean.value), (math.exp(mean.low), math.exp(mean.high))
