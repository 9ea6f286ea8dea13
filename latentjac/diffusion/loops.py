"""The one loop up the levels and the one loop down, whatever predicts and whatever a step is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from latentjac.diffusion.ode_solvers import Predictor, Step
from latentjac.diffusion.schedule import Schedule
from latentjac.models.predictions import Prediction

if TYPE_CHECKING:
    from tqdm import tqdm

# Samples at a level, from those one level lower.
StepUp = Callable[[torch.Tensor, int], torch.Tensor]


def down(
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    predict: Predictor,
    *,
    end: int = 0,
    step: Step | None = None,
    bar: tqdm | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Go down the levels; between levels of the same signal and noise samples stay as they are.

    Args:
        x: Samples ``[B, C, H, W]`` at the level.
        schedule: The levels.
        level: Where to begin.
        predict: Clean sample and noise at each level.
        end: Where to stop.
        step: By default that of the schedule's solver.
        bar: Progress bar to update once a step.

    Yields:
        Every level with the samples there: first the one to begin at with those given, last the end.
    """
    step = step or schedule.solver.down(schedule)
    yield level, x
    for i in range(level, end, -1):
        if not schedule.same(i, i - 1):
            x = step(x, predict(x, i), i)
        if bar is not None:
            bar.update()
        yield i - 1, x


def up(
    x: torch.Tensor, schedule: Schedule, step: StepUp, *, end: int | None = None, bar: tqdm | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """Go up the levels, from the clean samples to a level.

    Args:
        x: Clean samples ``[B, C, H, W]``.
        schedule: The levels.
        step: Samples at each level, from those below.
        end: Where to stop; by default at the noisiest level.
        bar: Progress bar to update once a step.

    Yields:
        Every level with the samples there, first the clean ones.
    """
    yield 0, x
    for i in range(1, (schedule.top if end is None else end) + 1):
        if not schedule.same(i, i - 1):
            x = step(x, i)
        if bar is not None:
            bar.update()
        yield i, x


def ancestral(schedule: Schedule, noisy_below: int, generator: torch.Generator | None) -> Step:
    """Steps that are stochastic (eta = 1) from a level down, and deterministic above it.

    Args:
        schedule: The levels.
        noisy_below: Steps from this level and those below it are stochastic.
        generator: Source of their noise; a CPU generator gives the same noise for every device.
    """
    from diffusers.utils.torch_utils import randn_tensor

    def step(x: torch.Tensor, found: Prediction, level: int) -> torch.Tensor:
        noise = None
        if level <= noisy_below:
            noise = randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return schedule.step(x, found.eps, level, level - 1, noise, x0=found.x0)

    return step
