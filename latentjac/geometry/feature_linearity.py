"""How far along a direction a feature map is what its Jacobian says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from latentjac.arguments import check_moved, check_number, check_overflow, check_sequence, shown
from latentjac.geometry.curvature import least_step
from latentjac.geometry.feature_map import FeatureMap, check_features
from latentjac.geometry.rows import check_points, directions_at
from latentjac.public import public


@dataclass(frozen=True)
class FeatureLinearity:
    """A feature map against its linearization, float64 ``[q, L]``, or ``[B, q, L]`` for B > 1 points.

    Attributes:
        lengths: Ways lambda along the unit directions, Euclidean, in units of the sample.
        norm_ratio: ``|f(x + lambda v)| / |f(x) + lambda J v|``.
        cosine: Cosine of the two.
        deviation: ``|f(x + lambda v) - f(x) - lambda J v| / |lambda J v|``. The other two stay near 1 wherever f(x) is
            large against its change; this one does not, and is of first order in lambda where f is curved.
    """

    lengths: tuple[float, ...]
    norm_ratio: torch.Tensor = field(repr=False)
    cosine: torch.Tensor = field(repr=False)
    deviation: torch.Tensor = field(repr=False)

    def radius(self, tolerance: float = 0.1) -> torch.Tensor:
        """Last length before the deviation first exceeds the tolerance, 0 if it does at once; ``[q]`` or ``[B, q]``.

        Raises:
            TypeError: If tolerance is not a number.
            ValueError: If it is negative.
        """
        tolerance = check_number("radius", "tolerance", tolerance, 0, least=True)
        inside = (self.deviation <= tolerance).cumprod(-1)
        starts = torch.tensor([0.0, *self.lengths], dtype=torch.float64, device=inside.device)
        return starts[inside.sum(-1)]


@public
@torch.no_grad()
def feature_linearity(
    features: FeatureMap, x: torch.Tensor, directions: torch.Tensor, lengths: Sequence[float]
) -> FeatureLinearity:
    """Compare ``f(x + lambda v)`` with ``f(x) + lambda J v`` (Chen et al. 2024, "LOCO Edit").

    One pass for all directions of a point, and one evaluation for each direction and length.

    Args:
        features: The map.
        x: Points ``[B, ...]``.
        directions: ``[q, ...]``, the same at all points, or ``[B, q, ...]``; used as unit directions.
        lengths: Ascending, each at least the way that rounding of the samples leaves (2 rounding units of their norm).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a shape does not fit, a direction is zero or lengths are not positive and ascending.
    """
    check_features("feature_linearity", features)
    x = check_points("feature_linearity", "x", x)
    rows = directions_at("feature_linearity", "directions", directions, x, unit=True)
    steps = _check_lengths(lengths, least_step(x))
    ways = x.new_tensor(steps).view(-1, *[1] * (x.ndim - 1))
    moved = (x[:, None, None] + ways * rows[:, :, None]).flatten(0, 2)
    check_moved("feature_linearity", "lengths", moved)
    there = features.values(moved).double().reshape(*rows.shape[:2], len(steps), -1)
    here = features.values(x).double().reshape(len(x), 1, 1, -1)
    tangent = features.tangents(x, rows).double().flatten(2)[:, :, None]
    change = tangent * torch.tensor(steps, dtype=torch.float64, device=x.device)[:, None]
    tiny = torch.finfo(torch.float64).tiny
    predicted = here + change
    sizes = there.norm(dim=-1), predicted.norm(dim=-1)
    measures = (
        sizes[0] / sizes[1].clamp_min(tiny),
        (there * predicted).sum(-1) / (sizes[0] * sizes[1]).clamp_min(tiny),
        (there - predicted).norm(dim=-1) / change.norm(dim=-1).clamp_min(tiny),
    )
    check_overflow("feature_linearity", "lengths", *measures)
    return FeatureLinearity(steps, *(m[0] if len(x) == 1 else m for m in measures))


def _check_lengths(lengths: Any, least: float) -> tuple[float, ...]:
    name = "feature_linearity"
    given = check_sequence(name, "lengths", lengths, "numbers")
    steps = tuple(check_number(name, "lengths", value, 0) for value in given)
    if any(b <= a for a, b in pairwise(steps)):
        raise ValueError(f"{name}: lengths must be ascending, got {shown(given)}")
    if steps[0] < least:
        raise ValueError(f"{name}: lengths must be at least {least:.1e}, what rounding of x allows, got {steps[0]!r}")
    return steps
