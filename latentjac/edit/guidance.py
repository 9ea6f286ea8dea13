"""x-space guidance: walking a noisy sample along a direction by differences of the predicted noise."""

from __future__ import annotations

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, predict_noise
from latentjac.models import Model


def x_space_guidance(
    model: Model,
    point: Point,
    directions: torch.Tensor,
    distances: torch.Tensor,
    probe_lengths: torch.Tensor,
    num_steps: int,
    sigma: float,
    bar: tqdm | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Walk copies of a sample: ``x <- x + g [eps(x + p v) - eps(x)]`` (Park et al. 2023, section 3.4).

    g is chosen anew at every step such that x moves by ``|distance| sigma / num_steps``: the original's
    constant g makes the way travelled depend on the image, the timestep and the direction.

    Args:
        model: The model.
        point: One sample, at one timestep.
        directions: Unit directions of each walk, ``[w, C, H, W]``.
        distances: Signed way of each walk in noise standard deviations, ``[w]``; 0 stays.
        probe_lengths: p of each walk in noise standard deviations, ``[w]``.
        num_steps: Steps of every walk.
        sigma: Standard deviation of the noise at the point.
        bar: Progress bar to update once a step.

    Returns:
        The samples reached ``[w, C, H, W]`` and the gains g ``[num_steps, w]``.
    """
    shape = (-1, 1, 1, 1)
    x = point.sample.expand(len(directions), *point.sample.shape[1:]).clone()
    probes = (probe_lengths * sigma * distances.sign()).view(shape) * directions
    steps = distances.abs() * sigma / num_steps
    moving = distances != 0
    gains = x.new_zeros(num_steps, len(x))
    for i in range(num_steps):
        if moving.any():
            both = torch.cat([x[moving] + probes[moving], x[moving]])
            ahead, here = predict_noise(model, both, point.timestep, point.conditioning).chunk(2)
            change = ahead - here
            size = change.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
            gains[i, moving] = steps[moving] / size
            x[moving] += gains[i, moving].view(shape) * change
        if bar is not None:
            bar.update()
    return x, gains
