"""Generated samples, followed over noise levels, and their local bases."""

from __future__ import annotations

from dataclasses import replace

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, descend, noise_point
from latentjac.geometry import local_basis
from latentjac.models import Model
from latentjac.solvers import LocalBasis
from latentjac.solvers.building import building
from latentjac.stopping import Bar
from latentjac.studies.settings import Settings

# Points that one linearization holds: on one CPU core four are a sixth faster than one, and eight no faster than four.
POINTS_AT_ONCE = 4


@torch.no_grad()
def followed_points(model: Model, settings: Settings, progress: bool = False) -> tuple[Point, ...]:
    """The same generated samples at every level of the settings, from the noisiest to the cleanest.

    Random noise goes down the grid by deterministic DDIM steps, without guidance; each point holds all samples at one
    level.

    Raises:
        ValueError: If two levels are the same level of the grid.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    start = noise_point(
        model,
        settings.samples,
        num_inference_steps=settings.steps,
        generator=generator,
        guidance_scale=1.0,
        class_label=settings.class_label,
    )
    schedule = start.schedule
    wanted = [schedule.level(t=t) for t in settings.levels]
    if len(set(wanted)) < len(wanted):
        raise ValueError(
            f"Settings: levels must be apart on the grid of {settings.steps} steps, got {list(settings.levels)}, "
            f"which are its timesteps {[schedule.timesteps[i] for i in wanted]}"
        )
    top, end = schedule.top, wanted[-1]
    found: dict[int, Point] = {}
    with Bar("sampling", top - end, shown=progress) as bar:
        for level, x in descend(model, start.sample, schedule, top, start.conditioning, bar, end=end):
            if level in wanted:
                found[level] = replace(start, sample=x, level=level)
    return tuple(found[level] for level in wanted)


def one_sample(point: Point, index: int) -> Point:
    """The point of one of several samples."""
    return point.rows(slice(index, index + 1))


def bases_at(
    model: Model, point: Point, settings: Settings, layer: str = "mid", bar: tqdm | None = None
) -> list[LocalBasis]:
    """The local basis of every sample of a point, some at a time.

    Args:
        model: The model.
        point: Samples at one level.
        settings: For k, tol and seed.
        layer: Feature map.
        bar: Moved on by one for each basis.

    Raises:
        KeyboardInterrupt: If the solver was interrupted.
    """
    bases: list[LocalBasis] = []
    for start in range(0, len(point.sample), POINTS_AT_ONCE):
        part = point.rows(slice(start, start + POINTS_AT_ONCE))
        generator = torch.Generator().manual_seed(settings.seed)
        with building("study"):
            basis = local_basis(model, part, settings.k, layer, tol=settings.tol, generator=generator)
        bases += [basis.point(i) for i in range(basis.points)]
        if bar is not None:
            bar.update(basis.points)
    return bases
