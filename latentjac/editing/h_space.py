"""Edits that leave the noisy sample where it is and move the features on the way down."""

from __future__ import annotations

from typing import Any

import torch
from tqdm import tqdm

from latentjac.editing.arguments import Job, grouped
from latentjac.editing.diagnostics import Along, compare
from latentjac.editing.injection import denoise_injected, predict_injected
from latentjac.editing.linearity import LENGTHS, measure_injection


def edit_h_space(job: Job, unit: float) -> dict[str, Any]:
    """Add directions to the features of a layer while denoising.

    Args:
        job: What to do.
        unit: Standard deviation of the features at the point, the unit of the distances.

    Returns:
        The fields of an :class:`latentjac.Edit` that depend on the method.
    """
    point, options, rows = job.point, job.options, job.rows
    linearity = measure_injection(job.model, point, options.layer, rows, unit, float(options.linearity_tolerance))
    directions, ways, layout = grouped(rows, job.distances, options.compose)
    offsets = (unit * ways.view(*ways.shape, *[1] * (rows.ndim - 1)) * directions).sum(1)
    with tqdm(total=job.level, desc="edit", unit="step", disable=not job.progress) as bar:
        samples = denoise_injected(
            job.model, point, job.schedule, job.level, options.layer, offsets, options.inject, bar, options.asymmetric
        )
    points = point.sample.expand(len(offsets), *point.sample.shape[1:])
    return {
        "samples": samples.view(*layout, *samples.shape[1:]),
        "points": points.reshape(*layout, *points.shape[1:]),
        "directions": rows,
        "num_steps": 1,
        "linearity": linearity,
        "along": _along(job, offsets, unit, layout),
        "inject": options.inject,
        "asymmetric": options.asymmetric,
    }


def _along(job: Job, offsets: torch.Tensor, unit: float, layout: tuple[int, int]) -> Along:
    """The one step of the features, and the change of the predicted noise against that of a short step."""
    size = offsets.flatten(1).double().norm(dim=1)
    part = (LENGTHS[0] * unit / size.clamp_min(1e-300)).clamp_max(1.0)
    point, x = job.point, job.point.sample.expand(len(offsets), *job.point.sample.shape[1:])

    def eps(fraction: torch.Tensor) -> torch.Tensor:
        scaled = fraction.view(-1, *[1] * (offsets.ndim - 1)).to(offsets) * offsets
        return predict_injected(job.model, x, point, point.timestep, job.options.layer, scaled).flatten(1).double()

    here = eps(torch.zeros_like(part))
    ratio, cosine = compare(eps(torch.ones_like(part)) - here, (eps(part) - here) / part[:, None])
    still = torch.zeros(layout, dtype=torch.float64, device="cpu")
    return Along(still, size.cpu().view(layout), (0,), ratio.view(1, *layout), cosine.view(1, *layout))
