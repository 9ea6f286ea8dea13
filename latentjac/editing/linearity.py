"""How far along a direction the network is linear."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_number
from latentjac.diffusion import Point, place, predict_noise
from latentjac.diffusion.arguments import check_model
from latentjac.editing.injection import predict_injected
from latentjac.geometry.rows import directions_at
from latentjac.models import Model
from latentjac.public import public

# Probe lengths in noise standard deviations; the first is the reference, small but far above rounding.
LENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


@dataclass(frozen=True)
class Linearity:
    """Difference quotients of the predicted noise along one direction, against the shortest one.

    Attributes:
        lengths: Probe lengths, in units of the distance.
        norm_ratio: Size of each quotient over that of the shortest; 1 where linear.
        cosine: Cosine of each quotient with the shortest; 1 where linear.
        radius: Largest length up to which the quotients are within the tolerance.
        tolerance: Largest relative deviation of a quotient that counts as linear.
    """

    lengths: tuple[float, ...]
    norm_ratio: tuple[float, ...]
    cosine: tuple[float, ...]
    radius: float
    tolerance: float


@public
def measure_linearity(
    model: Model, point: Point, directions: torch.Tensor, sigma: float, tolerance: float
) -> list[Linearity]:
    """Measure ``[eps(x + d v) - eps(x)] / d`` for growing d, both ways along each direction.

    Args:
        model: The model.
        point: One sample.
        directions: Unit directions ``[q, C, H, W]``.
        sigma: Standard deviation of the noise at the point, at most 1.
        tolerance: Relative deviation that still counts as linear.

    Returns:
        One measurement a direction; the worse of its two ways at each length.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model, or the network does not respond to a
            direction at all.
    """
    name = "measure_linearity"
    check_model(name, model)
    place(name, model, point)
    if len(point.sample) != 1:
        raise ValueError(f"{name}: point must hold one sample, got {len(point.sample)}")
    directions = directions_at(name, "directions", directions, point.sample, unit=True)[0]
    sigma = check_number(name, "sigma", sigma, 0, 1, most=True)
    tolerance = check_number(name, "tolerance", tolerance, 0, 1)
    steps = _both_ways(sigma, directions)
    moved = point.sample + (steps * directions[:, None]).flatten(0, 1)
    base = predict_noise(model, point.sample, point.timestep, point.conditioning)
    eps = predict_noise(model, moved, point.timestep, point.conditioning)
    return _judge(eps, base, steps.flatten(), tolerance)


def measure_injection(
    model: Model, point: Point, layer: str, directions: torch.Tensor, unit: float, tolerance: float
) -> list[Linearity]:
    """The same for directions ``[q, *features]`` that are added to a layer's output; lengths in ``unit``."""
    steps = _both_ways(unit, directions)
    offsets = (steps * directions[:, None]).flatten(0, 1)
    base = predict_noise(model, point.sample, point.timestep, point.conditioning)
    copies = point.sample.expand(len(offsets), *point.sample.shape[1:])
    eps = predict_injected(model, copies, point, point.timestep, layer, offsets)
    return _judge(eps, base, steps.flatten(), tolerance)


def _both_ways(unit: float, like: torch.Tensor) -> torch.Tensor:
    """Signed lengths ``[1, 2 lengths, 1, ...]``, to be broadcast with directions ``[q, 1, ...]``."""
    lengths = like.new_tensor(LENGTHS)
    return (torch.cat([lengths, -lengths]) * unit).view(1, -1, *[1] * (like.ndim - 1))


def _judge(eps: torch.Tensor, base: torch.Tensor, steps: torch.Tensor, tolerance: float) -> list[Linearity]:
    """Compare the predictions ``[q * 2 lengths, C, H, W]`` after steps with the one before."""
    difference = (eps - base).flatten(1).double().view(-1, len(steps), base.numel())
    quotients = (difference / steps.double()[:, None]).view(len(difference), 2, len(LENGTHS), -1)
    reference = quotients[:, :, :1]
    size = reference.norm(dim=-1).clamp_min(1e-300)
    # The longest probe moves the prediction by less than its rounding: there is nothing to follow.
    heard = difference.view(quotients.shape)[:, :, -1].norm(dim=-1).amax(1)
    noise = 100 * torch.finfo(base.dtype).eps * float(base.double().norm())
    if (heard <= noise).any():
        deaf = int((heard <= noise).nonzero()[0])
        raise ValueError(
            f"edit: directions must change the predicted noise {LENGTHS[-1]:g} sigma away, "
            f"got no response to direction {deaf}"
        )
    deviation = ((quotients - reference).norm(dim=-1) / size).amax(1)
    ratio = quotients.norm(dim=-1) / size
    ratio = ratio.gather(1, (ratio - 1).abs().argmax(1, keepdim=True))[:, 0]
    cosine = torch.cosine_similarity(quotients, reference, dim=-1).amin(1)
    return [
        Linearity(LENGTHS, tuple(r.tolist()), tuple(c.tolist()), _radius(d), tolerance)
        for r, c, d in zip(ratio, cosine, deviation <= tolerance, strict=True)
    ]


def _radius(within: torch.Tensor) -> float:
    """Last length before the first one outside; the shortest is inside by definition."""
    outside = (~within).nonzero()
    return LENGTHS[int(outside[0]) - 1 if len(outside) else -1]
