"""How the image of a straight line bends in h-space."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from latentjac.arguments import check_moved, check_number, check_overflow
from latentjac.geometry.feature_map import FeatureMap, check_features
from latentjac.geometry.rows import check_points, directions_at
from latentjac.public import public
from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class Curvature(Shaped):
    """The curve ``f(x + lambda v)`` at lambda = 0, float64 ``[q]``, or ``[B, q]`` for B > 1 points.

    Attributes:
        speed: ``|J v|``, way of the features for a unit way of the sample.
        turning: Angle by which the tangent J v turns for a unit way of the sample, in radians.
        curvature: The same for a unit way of the features; 1 over the radius of the circle that fits best.
        stretch: Relative change of the speed for a unit way of the sample, signed.
        step: Distance of the points the tangents were taken at from x.
    """

    speed: torch.Tensor
    turning: torch.Tensor
    curvature: torch.Tensor
    stretch: torch.Tensor
    step: float = field(kw_only=True)


@public
@torch.no_grad()
def direction_curvature(
    features: FeatureMap, x: torch.Tensor, directions: torch.Tensor, step: float | None = None
) -> Curvature:
    """Second-order behaviour of a feature map along directions.

    By exact tangents ``J v`` at ``x - step v`` and ``x + step v``, in place of second derivatives: the error is of
    second order in the step, plus the rounding of J v over the step. 2 B q + B linearizations.

    Args:
        features: The map.
        x: Points ``[B, ...]``.
        directions: ``[q, ...]``, the same at all points, or ``[B, q, ...]``; used as unit directions.
        step: In units of the sample; the cube root of the rounding unit by default (0.005 in float32), which balances
            both errors where f changes over a distance of about 1, as it does for samples with unit noise. At least
            that which rounding of the samples leaves, :func:`least_step`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a shape does not fit, or a direction is zero or does not move the features.
    """
    name = "direction_curvature"
    check_features(name, features)
    x = check_points(name, "x", x)
    rows = directions_at(name, "directions", directions, x, unit=True)
    least = least_step(x)
    if step is None:
        step = max(torch.finfo(x.dtype).eps ** (1 / 3), least)
    step = check_number(name, "step", step, 0)
    if step < least:
        raise ValueError(f"{name}: step must be at least {least:.1e}, what rounding of x allows, got {step!r}")
    speed = features.tangents(x, rows).double().flatten(2).norm(dim=2)
    ends = torch.stack([x[:, None] - step * rows, x[:, None] + step * rows]).flatten(0, 2)
    check_moved(name, "step", ends)
    probes = rows.expand(2, *rows.shape).flatten(0, 2)[:, None]
    before, behind = features.tangents(ends, probes).double().reshape(2, *speed.shape, -1)
    sizes = before.norm(dim=2), behind.norm(dim=2)
    if not (speed * sizes[0] * sizes[1] > 0).all():
        where = (speed * sizes[0] * sizes[1] == 0).nonzero()[0].tolist()
        raise ValueError(f"{name}: directions must move the features, got no response at {where}")
    turning = angle_between(before, behind) / (2 * step)
    stretch = (sizes[1].log() - sizes[0].log()) / (2 * step)
    measures = (speed, turning, turning / speed, stretch)
    check_overflow(name, "x", *measures)
    return Curvature(*(m[0] if len(x) == 1 else m for m in measures), step=float(step))


def least_step(x: torch.Tensor) -> float:
    """The least way from samples ``[B, ...]`` that is a few times longer than rounding moves them, in their units.

    Rounding moves a sample by up to ``eps |x| / 2``, and turns a tangent by about eps.
    """
    longest = float(x.double().flatten(1).norm(dim=1).max())
    return 2 * torch.finfo(x.dtype).eps * max(1.0, longest)


def angle_between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angles of vectors ``[..., n]`` in radians, accurate however small (Kahan); 0 where one is zero."""
    tiny = torch.finfo(a.dtype).tiny
    a, b = (x / x.norm(dim=-1, keepdim=True).clamp_min(tiny) for x in (a, b))
    missing = (a.norm(dim=-1) == 0) | (b.norm(dim=-1) == 0)
    angle = 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return angle.masked_fill(missing, 0.0)
