"""Means over samples with their intervals: as curves, as ratios and in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from latentjac.geometry import SampleMean, sample_mean
from latentjac.studies.finding import Axes, Curve


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
    if not geometric:
        return curve_of(label, axes, x, sample_mean(values))
    return curve_of(label, axes, x, sample_mean(values.double().log()).map(torch.exp))


def curve_of(label: str, axes: Axes, x: Sequence[float], mean: SampleMean) -> Curve:
    """Means ``[L]`` that were made elsewhere, at L positions."""
    return Curve(label, axes, tuple(x), *(tuple(ends.tolist()) for ends in (mean.value, mean.low, mean.high)))


def constant_curve(label: str, axes: Axes, x: Sequence[float], mean: SampleMean) -> Curve:
    """One mean at every position: a line to compare with."""
    return Curve(label, axes, tuple(x), *((float(end),) * len(x) for end in (mean.value, mean.low, mean.high)))


def stated(mean: SampleMean, sign: bool = False) -> str:
    """A mean and its interval as sentences say it, with two digits behind the point.

    Args:
        mean: One number.
        sign: Show the sign of positive numbers too, as of changes.
    """
    value, low, high = (format(float(end), "+.2f" if sign else ".2f") for end in (mean.value, mean.low, mean.high))
    return f"{value} [{low}, {high}]"


def in_both_spaces(curves: Sequence[Curve], rises: Mapping[str, SampleMean]) -> str:
    """Where a mean distance begins and ends in each space, and by how much it rises.

    Args:
        curves: One a space, in the order of the rises.
        rises: By space.
    """
    return " and ".join(
        f"{curve.y[0]:.2f} to {curve.y[-1]:.2f} in {space}-space (by {stated(rise, sign=True)})"
        for (space, rise), curve in zip(rises.items(), curves, strict=False)
    )


def ends_of(mean: SampleMean) -> tuple[float, tuple[float, float]]:
    """One mean as the number of a finding, with its interval."""
    return float(mean.value), (float(mean.low), float(mean.high))


def mean_ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> SampleMean:
    """Geometric mean of the ratio of two positive quantities of the same samples, with its 95% interval.

    The interval is Student's for the mean of the logarithms: pairing takes out what samples differ by, and a ratio and
    its inverse come out alike.

    Args:
        numerator: ``[N]``.
        denominator: ``[N]``.
    """
    return sample_mean((numerator.double() / denominator.double()).log()).map(torch.exp)
