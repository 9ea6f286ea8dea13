"""Injection: denoising while a direction is added to the features of a layer."""

from __future__ import annotations

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, Schedule, denoise, predict_noise
from latentjac.diffusion.denoise import MAX_BATCH
from latentjac.geometry.linearity import Linearity, both_ways, judge_quotients
from latentjac.models import Model
from latentjac.models.layers import injected, resolve_layer


def predict_injected(
    model: Model, x: torch.Tensor, point: Point, timestep: int | float, layer: str, offsets: torch.Tensor
) -> torch.Tensor:
    """Predicted noise of samples ``[w, C, H, W]`` with ``offsets`` ``[w, *features]`` added to a layer's output."""
    name = resolve_layer(model.network, layer)
    parts = []
    for part, offset in zip(x.split(MAX_BATCH), offsets.split(MAX_BATCH), strict=True):
        with injected(model.network, name, offset):
            parts.append(predict_noise(model, part, timestep, point.conditioning))
    return torch.cat(parts)


def denoise_injected(
    model: Model,
    point: Point,
    schedule: Schedule,
    level: int,
    layer: str,
    offsets: torch.Tensor,
    inject: str,
    bar: tqdm,
    asymmetric: bool = False,
) -> torch.Tensor:
    """Clean samples ``[w, C, H, W]`` from copies of one noisy sample, each with its own offset to the features.

    Args:
        model: The model.
        point: The noisy sample.
        schedule: Its levels.
        level: Its level.
        layer: Where the offsets are added.
        offsets: ``[w, *features]``.
        inject: ``"below"`` adds them in every step from the point to the image, ``"point"`` in the first one.
        bar: Progress bar to update once a step.
        asymmetric: Go towards the clean sample predicted with the offsets along the noise predicted without (Kwon et
            al. 2023, equation 6); twice as many evaluations, in the same batches.
    """
    x = point.sample.expand(len(offsets), *point.sample.shape[1:])
    end = 0 if inject == "below" else level - 1
    for i in range(level, end, -1):
        if schedule.alphas[i] != schedule.alphas[i - 1]:
            rows, added = x, offsets
            if asymmetric:
                rows, added = torch.cat([x, x]), torch.cat([offsets, torch.zeros_like(offsets)])
            eps = predict_injected(model, rows, point, schedule.timesteps[i - 1], layer, added)
            # Without the addition last; the same prediction if there is only one.
            x = schedule.step(x, eps[-len(x) :], i, i - 1, clean_eps=eps[: len(x)])
        bar.update()
    return denoise(model, x, schedule, end, point.conditioning, bar)


def measure_injection(
    model: Model, point: Point, layer: str, directions: torch.Tensor, unit: float, tolerance: float
) -> tuple[Linearity, ...]:
    """As :func:`latentjac.geometry.measure_linearity`, of directions ``[q, *features]`` added to a layer's output.

    Lengths are in ``unit``.
    """
    steps = both_ways(unit, directions)
    offsets = (steps * directions[:, None]).flatten(0, 1)
    base = predict_noise(model, point.sample, point.timestep, point.conditioning)
    copies = point.sample.expand(len(offsets), *point.sample.shape[1:])
    eps = predict_injected(model, copies, point, point.timestep, layer, offsets)
    return judge_quotients(eps, base, steps.flatten(), tolerance)
