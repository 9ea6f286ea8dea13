"""Quantiles of Student's t distribution."""

from __future__ import annotations

import math


def student_quantile(confidence: float, freedom: int) -> float:
    """The t with ``P(|T| < t) = confidence`` for a whole number of degrees of freedom.

    Bisection of the finite sums that the distribution is then (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, freedom) < confidence else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _central_probability(angle: float, freedom: int) -> float:
    """``P(|T| < t)`` with ``t = sqrt(freedom) tan(angle)``."""
    odd = freedom % 2
    cosine = math.cos(angle)
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for j in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (j - 1) / j
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
