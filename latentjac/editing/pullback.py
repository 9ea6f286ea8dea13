"""Edits as the published code of Park et al. (2023) makes them."""

from __future__ import annotations

from typing import Any

import torch
from tqdm import tqdm

from latentjac.arguments import check_left
from latentjac.compat import Preset
from latentjac.diffusion import Point, denoise, predict_noise
from latentjac.editing.arguments import Job
from latentjac.editing.diagnostics import Along, Observer
from latentjac.editing.linearity import measure_linearity
from latentjac.editing.walk import Walks, walk
from latentjac.models import Model


class ConstantGain:
    """Steps ``x <- x + gain [eps(x + probe v) - eps(x)]`` along directions ``[w, C, H, W]`` of any length.

    The gain is one for all, or ``[w, 1, 1, 1]``.
    """

    def __init__(self, model: Model, point: Point, directions: torch.Tensor, gain: float | torch.Tensor) -> None:
        self._model, self._point, self._probes, self._gain = model, point, directions, gain

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The difference of the predicted noise, as long as it comes out."""
        both = torch.cat([x + self._probes, x])
        ahead, here = predict_noise(self._model, both, self._point.timestep, self._point.conditioning).chunk(2)
        return self._gain * (ahead - here)


def edit_as_published(job: Job, preset: Preset) -> dict[str, Any]:
    """Walk every direction both ways and make images of frames at regular steps of the walks.

    Args:
        job: What to do.
        preset: The settings.

    Returns:
        The fields of an :class:`latentjac.Edit` that depend on the method, and ``distances``.
    """
    model, point, rows, options, num_steps = job.model, job.point, job.rows, job.options, job.options.num_steps
    text = bool(point.conditioning)
    if text:
        check_left("edit", "generator", options.generator, None, "with text, whose last steps take no noise")
    gain = preset.gain(text) if options.gain is None else float(options.gain)
    sigma = job.schedule.noises[job.level]
    linearity = measure_linearity(model, point, rows, sigma, float(options.linearity_tolerance))
    ways = rows.new_tensor([-1.0, 1.0]).repeat(len(rows))
    probes = (preset.probe * ways).view(-1, 1, 1, 1) * rows.repeat_interleave(2, 0)
    walks = Walks(model, point, probes[:, None], ways[:, None], num_steps, sigma)
    observer = Observer(model, point, options.layer, sigma, len(probes), num_steps)
    frames = tuple(range(num_steps + 1))[:: max(1, (num_steps + 1) // preset.frames)]
    # One column for each signed number of steps; the one without steps counts once.
    columns = [(0, step) for step in frames[:0:-1]] + [(1, step) for step in frames]
    with tqdm(total=num_steps + job.level, desc="edit", unit="step", disable=not job.progress) as bar:
        way = walk(walks, ConstantGain(model, point, probes, gain), observer, bar, (len(rows), 2), frames)
        points = torch.stack([way.samples[frames.index(step), :, side] for side, step in columns], 1)
        noisy_below = 0 if text else job.schedule.level(t=preset.noisy_below)
        samples = denoise(
            model, points.flatten(0, 1), job.schedule, job.level, job.conditioning, bar,
            noisy_below=noisy_below, generator=options.generator or torch.Generator().manual_seed(0),
        )  # fmt: skip
    return {
        "samples": samples.view(points.shape),
        "points": points,
        "directions": rows,
        "distances": tuple(float(step if side else -step) for side, step in columns),
        "num_steps": num_steps,
        "compat": "pullback",
        "linearity": linearity,
        "along": _along(observer, columns, len(rows)),
        "gains": torch.full((num_steps, *points.shape[:2]), gain, dtype=torch.float64, device="cpu"),
    }


def _along(observer: Observer, columns: list[tuple[int, int]], directions: int) -> Along:
    """Lengths up to every frame; linearity is that of the walk a frame lies on."""
    sides, steps = (list(numbers) for numbers in zip(*columns, strict=True))
    path, feature_path = (
        torch.stack(lengths).unflatten(1, (directions, 2))[steps, :, sides].T
        for lengths in (observer.paths, observer.feature_paths)
    )
    whole = observer.along((directions, 2))
    return Along(path, feature_path, whole.steps, whole.norm_ratio[:, :, sides], whole.cosine[:, :, sides])
