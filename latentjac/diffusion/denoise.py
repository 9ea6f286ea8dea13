"""Evaluations of the network in bounded batches, and the way from noisy to clean."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from latentjac import stopping
from latentjac.arguments import check_generator, check_int, check_kind, check_tensor
from latentjac.diffusion.arguments import check_bar, check_conditioning, check_model, check_samples, check_timestep
from latentjac.diffusion.loops import ancestral, down
from latentjac.diffusion.ode_solvers import Predictor
from latentjac.diffusion.schedule import Schedule
from latentjac.linearization import NonFiniteError
from latentjac.linearization.allocator import is_out_of_memory
from latentjac.models import Conditioning, Prediction
from latentjac.public import public

if TYPE_CHECKING:
    from tqdm import tqdm

    from latentjac.models import Model

MAX_BATCH = 16
_NONE = Conditioning()


@public
@torch.no_grad()
def predict(model: Model, x: torch.Tensor, timestep: int | float, conditioning: Conditioning = _NONE) -> Prediction:
    """Predicted clean samples and noise of any number of samples at one timestep, at most ``MAX_BATCH`` at a time.

    Args:
        model: The model.
        x: Samples ``[B, C, H, W]`` on the model's device.
        timestep: Timestep of the training schedule.
        conditioning: With one row, or one a sample; guided where it has guidance.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model.
        NonFiniteError: If the network gives NaN or Inf.
        StoppedError: If a limit of :func:`latentjac.limits` ends the call.
    """
    name = "predict"
    check_model(name, model)
    x = check_samples(name, "x", x, model)
    timestep = check_timestep(name, timestep, model.levels)
    conditioning = check_conditioning(name, "conditioning", conditioning, len(x))
    t = torch.tensor(timestep, device=x.device)
    parts: list[Prediction] = []
    start = 0
    while start < len(x):
        stopping.check()
        rows = slice(start, min(start + min(MAX_BATCH, model._forwards.most), len(x)))
        try:
            parts.append(model._forwards.predict(model, x[rows], t, conditioning.rows(rows)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not model._forwards.halve(model, rows.stop - rows.start):
                raise
            continue
        start = rows.stop
    found = Prediction(torch.cat([part.x0 for part in parts]), torch.cat([part.eps for part in parts]))
    if not bool(torch.stack([torch.isfinite(values).all() for values in found]).all()):  # one wait for a device
        raise NonFiniteError(f"{name}: network must be finite, got NaN or Inf at timestep {timestep}")
    return found


@public
def predict_noise(
    model: Model, x: torch.Tensor, timestep: int | float, conditioning: Conditioning = _NONE
) -> torch.Tensor:
    """Predicted noise ``[B, C, H, W]``; arguments and errors are those of :func:`predict`."""
    return predict(model, x, timestep, conditioning).eps


def predictor(model: Model, schedule: Schedule, conditioning: Conditioning) -> Predictor:
    """What a model predicts at the levels of a schedule, for :func:`latentjac.diffusion.loops.down`."""
    return lambda x, level: predict(model, x, schedule.timesteps[level], conditioning)


@public
def descend(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: Conditioning = _NONE,
    bar: tqdm | None = None,
    *,
    end: int = 0,
    noisy_below: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Go down the levels by the schedule's solver; between levels of the same noise the samples stay as they are.

    Args:
        model: The model.
        x: Samples ``[B, C, H, W]`` at the level.
        schedule: The levels.
        level: Where to begin.
        conditioning: With one row, or one a sample.
        bar: Progress bar to update once a step.
        end: Where to stop; by default at the clean samples.
        noisy_below: Steps from this level and those below it are stochastic (eta = 1), and all of them of first order;
            by default none is.
        generator: Source of their noise; a CPU generator gives the same noise for every device.

    Yields:
        Every level with the samples there: first the one to begin at with those given, last the end.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model.
    """
    name = "descend"
    check_model(name, model)
    x = check_tensor(name, "x", check_samples(name, "x", x, model))
    check_kind(name, "schedule", schedule, Schedule, "a latentjac.diffusion.Schedule")
    level = check_int(name, "level", level, 0, schedule.top)
    conditioning = check_conditioning(name, "conditioning", conditioning, len(x))
    check_bar(name, bar)
    end, noisy_below = check_int(name, "end", end, 0, level), check_int(name, "noisy_below", noisy_below, 0)
    check_generator(name, generator)
    step = ancestral(schedule, noisy_below, generator) if noisy_below else None
    return down(x, schedule, level, predictor(model, schedule, conditioning), end=end, step=step, bar=bar)


@public
def denoise(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: Conditioning = _NONE,
    bar: tqdm | None = None,
    *,
    noisy_below: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Clean samples ``[B, C, H, W]`` from noisy ones: the end of the way down that :func:`descend` goes.

    Arguments and errors are those of :func:`descend`.
    """
    return last(descend(model, x, schedule, level, conditioning, bar, noisy_below=noisy_below, generator=generator))


def last(way: Iterator[tuple[int, torch.Tensor]]) -> torch.Tensor:
    """The samples at the end of a way."""
    return deque(way, maxlen=1).pop()[1]
