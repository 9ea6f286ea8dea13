"""The noise levels of the published code of Park et al. (NeurIPS 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from latentjac.diffusion.schedule import Schedule, check_steps
from latentjac.models.predictions import check_scheduler, training_levels
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.diffusion.trajectory import Point
    from latentjac.models import Model


@public
def park2023_schedule(scheduler: Any, num_inference_steps: int) -> Schedule:
    """Levels at the timesteps ``linspace(0, 1, num_inference_steps) (T - 1)``, the first of which is the clean one.

    The timesteps are fractional; the network gets them as they are, and signal and noise are those of the whole
    timestep below.

    Args:
        scheduler: Of diffusers, with ``alphas_cumprod``.
        num_inference_steps: How many levels, at least 3 and at most T.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are no such levels.
    """
    total = check_scheduler("park2023_schedule", scheduler)
    steps = check_steps("park2023_schedule", num_inference_steps, 3, total)
    # In float32, as published: which whole timestep is below some of them is decided by rounding.
    places = torch.linspace(0, 1, steps, dtype=torch.float32, device="cpu") * (total - 1)
    signals, noises = (values[places.long()].tolist() for values in training_levels(scheduler))
    return Schedule(tuple(signals), tuple(noises), tuple(places.tolist()), total, steps)


def check_park2023(function: str, model: Model, point: Point) -> None:
    """Raise unless a point lies on these levels."""
    expected = math.inf if point.num_inference_steps < 3 else point.num_inference_steps
    if expected > model.num_train_timesteps or point.schedule != park2023_schedule(model.scheduler, int(expected)):
        raise ValueError(f"{function}: point must come from invert(..., compat='pullback'), got one of another grid")
