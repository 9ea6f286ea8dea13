"""Injection: denoising while a direction is added to the features of a layer."""

from __future__ import annotations

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, Schedule, denoise, predict_noise
from latentjac.diffusion.denoise import MAX_BATCH
from latentjac.models import Model
from latentjac.models.layers import injected, resolve_layer

INJECTIONS = ("below", "point")


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
    """
    x = point.sample.expand(len(offsets), *point.sample.shape[1:])
    end = 0 if inject == "below" else level - 1
    for i in range(level, end, -1):
        if schedule.alphas[i] != schedule.alphas[i - 1]:
            eps = predict_injected(model, x, point, schedule.timesteps[i - 1], layer, offsets)
            x = schedule.step(x, eps, i, i - 1)
        bar.update()
    return denoise(model, x, schedule, end, point.conditioning, bar)
