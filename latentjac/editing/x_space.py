"""Edits that move the noisy sample: walks by steps, then down to images."""

from __future__ import annotations

import math
from typing import Any

import torch
from tqdm import tqdm

from latentjac.diffusion import denoise
from latentjac.editing.arguments import MOST_STEPS, Job, Options, grouped
from latentjac.editing.diagnostics import Observer
from latentjac.editing.geodesic import Geodesic
from latentjac.editing.guidance import Guidance
from latentjac.editing.linearity import Linearity, measure_linearity
from latentjac.editing.nearby import NearbyBases
from latentjac.editing.null_space import left_of, null_space
from latentjac.editing.walk import Linear, Method, Walks, walk


def edit_x_space(job: Job, inside: torch.Tensor | None) -> dict[str, Any]:
    """Walk all walks side by side, then go down to images.

    Args:
        job: What to do.
        inside: Mask ``[H, W]`` of the part that may change, or None.

    Returns:
        The fields of an :class:`latentjac.Edit` that depend on the method.
    """
    model, point, options, rows = job.model, job.point, job.options, job.rows
    outside = None
    if inside is not None and options.null_rank != 0:
        rank, energy = options.null_rank, options.null_energy
        outside = null_space(model, point, inside, rank, energy, tol=options.tol, progress=job.progress).v
        rows = left_of(rows, outside)
    sigma = job.schedule.noises[job.level]
    linearity = measure_linearity(model, point, rows, sigma, float(options.linearity_tolerance))
    directions, ways, layout = grouped(rows, job.distances, options.compose)
    num_steps = options.num_steps if options.method == "linear" else _enough_steps(options.num_steps, ways, linearity)
    walks = Walks(model, point, directions, ways, num_steps, sigma, outside)
    observer = Observer(model, point, options.layer, sigma, len(directions), num_steps)
    method = _method(walks, linearity, options)
    with tqdm(total=num_steps + job.level, desc="edit", unit="step", disable=not job.progress) as bar:
        way = walk(walks, method, observer, bar, layout)
        points = way.samples[-1].flatten(0, 1)
        samples = denoise(model, points, job.schedule, job.level, job.conditioning, bar)
    each = ways.T.shape if options.compose else layout
    return {
        "samples": samples.view(*layout, *samples.shape[1:]),
        "points": points.view(*layout, *points.shape[1:]),
        "directions": rows,
        "num_steps": num_steps,
        "linearity": linearity,
        "along": observer.along(layout),
        "way": way,
        **{
            name: torch.stack(entries).view(-1, *each)
            for name in ("gains", "retained", "overlaps")
            if (entries := getattr(method, name, None))
        },
    }


def _method(walks: Walks, linearity: list[Linearity], options: Options) -> Method:
    """What decides on the steps."""
    if options.method == "linear":
        return Linear(walks)
    bases = None
    if options.method == "geodesic" or options.reestimate:
        bases = NearbyBases(walks.model, walks.point, options.k, options.layer, options.tol)
    if options.method == "geodesic":
        assert bases is not None
        return Geodesic(walks, bases, options.transport)
    # The original's probe of length 1 where the network is linear that far, else shorter.
    radii = walks.distances.new_tensor([entry.radius for entry in linearity]).clamp_max(1.0)
    probes = radii.repeat_interleave(walks.distances.numel() // len(radii)).view(walks.distances.shape)
    return Guidance(walks, probes, bases, options.reestimate)


def _enough_steps(num_steps: int, ways: torch.Tensor, linearity: list[Linearity]) -> int:
    """At least as many that none is longer than the network is linear."""
    radius = min(entry.radius for entry in linearity)
    longest = float(ways.abs().sum(1).max())
    num_steps = max(num_steps, math.ceil(longest / radius))
    if num_steps > MOST_STEPS:
        raise ValueError(
            f"edit: distance must be within {MOST_STEPS} steps of the linear range {radius:g}, got {longest:g}"
        )
    return num_steps
