"""How far along a direction a map is linear: features against their Jacobian, predicted noise against short steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from latentjac.arguments import check_moved, check_number, check_overflow, check_sequence, shown
from latentjac.diffusion import Point, place, predict_noise
from latentjac.diffusion.schedule import MOST_NOISE
from latentjac.geometry.curvature import least_step
from latentjac.geometry.feature_map import FeatureMap, check_features
from latentjac.geometry.rows import check_points, directions_at
from latentjac.models import Model
from latentjac.public import public
from latentjac.shaped import Shaped

# Probe lengths in noise standard deviations; the first is the reference, small but far above rounding. One is the probe
# of guidance (Park et al. 2023), which walks need anyway.
LENGTHS = (0.05, 0.25, 0.5, 1.0, 2.0)
BOTH = (1.0, -1.0)


@dataclass(frozen=True, repr=False)
class Comparison(Shaped):
    """Vectors against those that a linear map would give, ``[...]`` each.

    Attributes:
        norm_ratio: Size of the one over that of the other; 1 where the map is linear, and where both are zero.
        cosine: Cosine of the two; the same.
        deviation: Size of the difference over that of the other; 0 where the map is linear.
    """

    norm_ratio: torch.Tensor
    cosine: torch.Tensor
    deviation: torch.Tensor


def compare(found: torch.Tensor, expected: torch.Tensor) -> Comparison:
    """Compare vectors ``[..., m]`` in float64 with those expected of a linear map."""
    tiny = torch.finfo(torch.float64).tiny
    sizes = found.norm(dim=-1), expected.norm(dim=-1)
    still = (sizes[0] == 0) & (sizes[1] == 0)
    ratio = sizes[0] / sizes[1].clamp_min(tiny)
    cosine = (found * expected).sum(-1) / sizes[0].clamp_min(tiny) / sizes[1].clamp_min(tiny)
    deviation = (found - expected).norm(dim=-1) / sizes[1].clamp_min(tiny)
    return Comparison(ratio.masked_fill(still, 1.0), cosine.masked_fill(still, 1.0), deviation)


def reach(lengths: Sequence[float], deviation: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Last of L ascending lengths before a deviation ``[..., L]`` first exceeds the tolerance, 0 if it does at once."""
    inside = (deviation <= tolerance).cumprod(-1)
    starts = torch.tensor([0.0, *lengths], dtype=torch.float64, device=inside.device)
    return starts[inside.sum(-1)]


@dataclass(frozen=True, repr=False)
class FeatureLinearity(Shaped):
    """A feature map against its linearization, float64 ``[q, L]``, or ``[B, q, L]`` for B > 1 points.

    Attributes:
        lengths: Ways lambda along the unit directions, Euclidean, in units of the sample.
        norm_ratio: ``|f(x + lambda v)| / |f(x) + lambda J v|``.
        cosine: Cosine of the two.
        deviation: ``|f(x + lambda v) - f(x) - lambda J v| / |lambda J v|``. The other two stay near 1 wherever f(x) is
            large against its change; this one does not, and is of first order in lambda where f is curved.
    """

    lengths: tuple[float, ...]
    norm_ratio: torch.Tensor
    cosine: torch.Tensor
    deviation: torch.Tensor

    def radius(self, tolerance: float = 0.1) -> torch.Tensor:
        """Last length before the deviation first exceeds the tolerance, 0 if it does at once; ``[q]`` or ``[B, q]``.

        Raises:
            TypeError: If tolerance is not a number.
            ValueError: If it is negative.
        """
        tolerance = check_number("radius", "tolerance", tolerance, 0, least=True)
        return reach(self.lengths, self.deviation, tolerance)


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
    values, changes = compare(there, here + change), compare(there - here, change)
    measures = values.norm_ratio, values.cosine, changes.deviation
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


@dataclass(frozen=True)
class Linearity:
    """Difference quotients of the predicted noise along one direction, against the shortest one.

    Attributes:
        lengths: Probe lengths, in units of the distance.
        norm_ratio: Size of each quotient over that of the shortest; 1 where linear.
        cosine: Cosine of each quotient with the shortest; 1 where linear.
        deviation: Size of the difference of the two over that of the shortest; 0 where linear.
        radius: Length at which the deviation first reaches the tolerance, by straight lines between the lengths; the
            longest one where it never does.
        tolerance: Largest deviation of a quotient that counts as linear.
    """

    lengths: tuple[float, ...]
    norm_ratio: tuple[float, ...]
    cosine: tuple[float, ...]
    deviation: tuple[float, ...]
    radius: float
    tolerance: float


# Of a prediction, that the longest probe has to move at most: 100 roundings of bfloat16 would be most of it.
_LEAST_ANSWER = 0.01


@public
@torch.no_grad()
def measure_linearity(
    model: Model, point: Point, directions: torch.Tensor, sigma: float, tolerance: float
) -> tuple[Linearity, ...]:
    """Measure ``[eps(x + d v) - eps(x)] / d`` for growing d, both ways along each direction.

    Args:
        model: The model.
        point: One sample.
        directions: Unit directions ``[q, C, H, W]``.
        sigma: Standard deviation of the noise at the point.
        tolerance: Relative deviation that still counts as linear.

    Returns:
        One measurement a direction; the worse of its two ways at each length.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model, or the network does not respond to a
            direction at all.
    """
    name = "measure_linearity"
    place(name, model, point)
    if len(point.sample) != 1:
        raise ValueError(f"{name}: point must hold one sample, got {len(point.sample)}")
    directions = directions_at(name, "directions", directions, point.sample, unit=True)[0]
    sigma = check_number(name, "sigma", sigma, 0, MOST_NOISE, most=True)
    tolerance = check_number(name, "tolerance", tolerance, 0, 1)
    steps = probe_steps(sigma, directions)
    moved = point.sample + steps * directions[:, None, None]
    eps = predict_noise(model, torch.cat([point.sample, moved.flatten(0, 2)]), point.timestep, point.conditioning)
    return judge_quotients(eps[1:].view(moved.shape), eps[:1], steps, tolerance)


def probe_steps(unit: float, like: torch.Tensor, sides: Sequence[float] = BOTH) -> torch.Tensor:
    """Signed lengths ``[1, sides, lengths, 1, ...]``, to be broadcast with directions ``[q, 1, 1, ...]``."""
    steps = unit * like.new_tensor(sides)[:, None] * like.new_tensor(LENGTHS)
    return steps.view(1, *steps.shape, *[1] * (like.ndim - 1))


def judge_quotients(
    eps: torch.Tensor, base: torch.Tensor, steps: torch.Tensor, tolerance: float
) -> tuple[Linearity, ...]:
    """Compare the predictions ``[q, sides, lengths, C, H, W]`` after steps with the one before, ``[1, C, H, W]``.

    Returns:
        One measurement a direction; the worse of the sides at each length.
    """
    difference = (eps - base).double().flatten(3)
    # The longest probe moves the prediction by less than its rounding: there is nothing to follow.
    answer = difference[:, :, -1].norm(dim=-1).amax(1)
    noise = min(100 * torch.finfo(base.dtype).eps, _LEAST_ANSWER) * float(base.double().norm())
    if (answer <= noise).any():
        first = int((answer <= noise).nonzero()[0])
        raise ValueError(
            f"measure_linearity: directions must change the predicted noise {LENGTHS[-1]:g} sigma away, "
            f"got no response to direction {first}"
        )
    quotients = difference / steps.double().view(1, *steps.shape[1:3], 1)
    found = compare(quotients, quotients[:, :, :1])
    ratio = found.norm_ratio.gather(1, (found.norm_ratio - 1).abs().argmax(1, keepdim=True))[:, 0]
    worst = ratio.tolist(), found.cosine.amin(1).tolist(), found.deviation.amax(1).tolist()
    return tuple(
        Linearity(LENGTHS, tuple(r), tuple(c), tuple(d), _crossing(d, tolerance), tolerance)
        for r, c, d in zip(*worst, strict=True)
    )


def _crossing(deviation: Sequence[float], tolerance: float) -> float:
    """Length at which a deviation first reaches the tolerance, by straight lines between the lengths."""
    for (near, below), (far, above) in pairwise(zip(LENGTHS, deviation, strict=True)):
        if above > tolerance:
            return near + (far - near) * (tolerance - below) / (above - below)
    return LENGTHS[-1]
