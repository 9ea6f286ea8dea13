"""Evaluations of the network in bounded batches, and the walk from noisy to clean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from latentjac.arguments import check_generator, check_int, check_kind, check_tensor
from latentjac.diffusion.arguments import check_bar, check_conditioning, check_model, check_samples, check_timestep
from latentjac.diffusion.schedule import Schedule
from latentjac.linearization import NonFiniteError
from latentjac.public import public

if TYPE_CHECKING:
    from tqdm import tqdm

    from latentjac.models import Model

MAX_BATCH = 16


@public
@torch.no_grad()
def predict_noise(
    model: Model, x: torch.Tensor, timestep: int | float, conditioning: tuple[torch.Tensor, ...] = ()
) -> torch.Tensor:
    """Predicted noise of any number of samples at one timestep, at most ``MAX_BATCH`` at a time.

    Args:
        model: The model.
        x: Samples ``[B, C, H, W]`` on the model's device.
        timestep: Timestep of the training schedule.
        conditioning: Tensors with one row, or one a sample.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model.
        NonFiniteError: If the network gives NaN or Inf.
    """
    check_model("predict_noise", model)
    x = check_samples("predict_noise", "x", x, model)
    timestep = check_timestep("predict_noise", timestep, model.num_train_timesteps)
    conditioning = check_conditioning("predict_noise", "conditioning", conditioning, len(x))
    t = torch.tensor(timestep, device=x.device)
    parts = []
    for start in range(0, len(x), MAX_BATCH):
        part = x[start : start + MAX_BATCH]
        rows = [c[start : start + MAX_BATCH] if len(c) == len(x) else c for c in conditioning]
        parts.append(model.eps(part, t, *rows))
    eps = torch.cat(parts)
    if not torch.isfinite(eps).all():
        raise NonFiniteError(f"predict_noise: network must be finite, got NaN or Inf at timestep {timestep}")
    return eps


@public
def descend(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: tuple[torch.Tensor, ...] = (),
    bar: tqdm | None = None,
    *,
    end: int = 0,
    noisy_below: int = 0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Go down the levels by DDIM steps; between levels of the same signal power the samples stay as they are.

    Args:
        model: The model.
        x: Samples ``[B, C, H, W]`` at the level.
        schedule: The levels.
        level: Where to begin.
        conditioning: Tensors with one row, or one a sample.
        bar: Progress bar to update once a step.
        end: Where to stop; by default at the clean samples.
        noisy_below: Steps from this level and those below it are stochastic (eta = 1); by default none is.
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
    level = check_int(name, "level", level, 0, len(schedule.timesteps))
    conditioning = check_conditioning(name, "conditioning", conditioning, len(x))
    check_bar(name, bar)
    end, noisy_below = check_int(name, "end", end, 0, level), check_int(name, "noisy_below", noisy_below, 0)
    check_generator(name, generator)
    return _descended(model, x, schedule, level, conditioning, bar, end, noisy_below, generator)


def _descended(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: tuple[torch.Tensor, ...],
    bar: tqdm | None,
    end: int,
    noisy_below: int,
    generator: torch.Generator | None,
) -> Iterator[tuple[int, torch.Tensor]]:
    from diffusers.utils.torch_utils import randn_tensor

    yield level, x
    for i in range(level, end, -1):
        if schedule.alphas[i] != schedule.alphas[i - 1]:
            eps = predict_noise(model, x, schedule.timesteps[i - 1], conditioning)
            noise = None
            if i <= noisy_below:
                noise = randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = schedule.step(x, eps, i, i - 1, noise)
        if bar is not None:
            bar.update()
        yield i - 1, x


@public
def denoise(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: tuple[torch.Tensor, ...] = (),
    bar: tqdm | None = None,
    *,
    noisy_below: int = 0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Clean samples ``[B, C, H, W]`` from noisy ones: the end of the way down that :func:`descend` goes.

    Arguments and errors are those of :func:`descend`.
    """
    way = descend(model, x, schedule, level, conditioning, bar, noisy_below=noisy_below, generator=generator)
    for _, sample in way:
        x = sample
    return x
