"""Edits of an image along directions at one point of its trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from latentjac.diffusion import Point, Schedule, denoise, place
from latentjac.edit.guidance import x_space_guidance
from latentjac.edit.linearity import Linearity, measure_linearity
from latentjac.geometry.local_basis import check_model
from latentjac.models import Model, to_pil

_MOST_STEPS = 1000


@dataclass(frozen=True)
class Edit:
    """Edited images, one for every pair of a direction and a distance, directions outermost.

    Attributes:
        images: ``images[i * len(distances) + j]`` is direction i at distance j.
        samples: Clean samples ``[directions, distances, C, H, W]``.
        points: Noisy samples that the images were made from, shaped like ``samples``.
        distances: Signed distances, in standard deviations of the noise at the point.
        num_steps: Guidance steps of every walk.
        linearity: How far the network is linear along each direction.
        gains: Factor of the noise difference at every step, ``[num_steps, directions, distances]``.
    """

    images: list[Image.Image] = field(repr=False)
    samples: torch.Tensor = field(repr=False)
    points: torch.Tensor = field(repr=False)
    distances: tuple[float, ...]
    num_steps: int
    linearity: list[Linearity] = field(repr=False)
    gains: torch.Tensor = field(repr=False)

    def image(self, direction: int, distance: int) -> Image.Image:
        """The image of one direction and one distance, both by index."""
        return self.images[direction * len(self.distances) + distance]


@torch.no_grad()
def edit(
    model: Model,
    point: Point,
    directions: torch.Tensor,
    distance: float | Sequence[float] = 3.0,
    num_steps: int = 16,
    *,
    linearity_tolerance: float = 0.1,
    progress: bool = False,
) -> Edit:
    """Move a noisy sample along directions by x-space guidance, then make images by deterministic DDIM.

    A distance is the way the noisy sample travels, in standard deviations ``sqrt(1 - alpha_bar_t)`` of the
    noise at the point. Noise itself varies by 1 along any direction there, so a distance means the same for
    every image and timestep. Steps longer than the range in which the network is linear along a direction
    are split: ``num_steps`` in the result can be larger than asked for.

    Args:
        model: The model.
        point: Where to edit, from ``invert(...).at(t)``; one sample.
        directions: ``[C, H, W]`` or ``[q, C, H, W]``, such as ``basis.v``; any length, used as unit directions.
        distance: Signed distance, or several; 0 gives the reconstruction.
        num_steps: Least number of guidance steps.
        linearity_tolerance: Relative change of the noise difference that still counts as linear.
        progress: Show a progress bar.

    Returns:
        Images, samples and diagnostics.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model.
    """
    check_model("edit", model)
    schedule, level = place("edit", model, point)
    if len(point.sample) != 1:
        raise ValueError(f"edit: point must hold one sample, got {len(point.sample)}")
    directions = _unit_directions(directions, point)
    distances = _check_distances(distance)
    if isinstance(num_steps, bool) or not isinstance(num_steps, int):
        raise TypeError(f"edit: num_steps must be an int, got {type(num_steps).__name__}")
    if num_steps < 1:
        raise ValueError(f"edit: num_steps must be at least 1, got {num_steps}")
    if isinstance(linearity_tolerance, bool) or not isinstance(linearity_tolerance, (int, float)):
        raise TypeError(f"edit: linearity_tolerance must be a number, got {type(linearity_tolerance).__name__}")
    if not 0 < linearity_tolerance < 1:
        raise ValueError(f"edit: linearity_tolerance must be in (0, 1), got {linearity_tolerance}")

    sigma = math.sqrt(1 - schedule.alphas[level])
    linearity = measure_linearity(model, point, directions, sigma, float(linearity_tolerance))
    radii = torch.tensor([entry.radius for entry in linearity])
    longest = max(abs(d) for d in distances)
    num_steps = max(num_steps, math.ceil(longest / float(radii.min())))
    if num_steps > _MOST_STEPS:
        raise ValueError(
            f"edit: distance must be within {_MOST_STEPS} steps of the linear range {float(radii.min()):g}, "
            f"got {longest:g}"
        )

    samples, points, gains = _walk(
        model, point, schedule, level, directions, distances, radii, num_steps, sigma, progress
    )
    shape = (len(directions), len(distances), *point.sample.shape[1:])
    return Edit(
        to_pil(model.codec.decode(samples)),
        samples.view(shape),
        points.view(shape),
        distances,
        num_steps,
        linearity,
        gains.view(num_steps, *shape[:2]),
    )


def _walk(
    model: Model,
    point: Point,
    schedule: Schedule,
    level: int,
    directions: torch.Tensor,
    distances: tuple[float, ...],
    radii: torch.Tensor,
    num_steps: int,
    sigma: float,
    progress: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All walks side by side, then all the way down to images."""
    repeated = directions.repeat_interleave(len(distances), 0)
    ways = directions.new_tensor(distances).repeat(len(directions))
    # The original's probe of length 1 where the network is linear that far, else shorter.
    probes = radii.clamp_max(1.0).to(directions).repeat_interleave(len(distances))
    with tqdm(total=num_steps + level, desc="edit", unit="step", disable=not progress) as bar:
        points, gains = x_space_guidance(model, point, repeated, ways, probes, num_steps, sigma, bar)
        samples = denoise(model, points, schedule, level, point.conditioning, bar)
    return samples, points, gains


def _unit_directions(directions: torch.Tensor, point: Point) -> torch.Tensor:
    if not isinstance(directions, torch.Tensor):
        raise TypeError(f"edit: directions must be a torch.Tensor, got {type(directions).__name__}")
    sample = point.sample
    rows = directions[None] if directions.ndim == sample.ndim - 1 else directions
    if rows.ndim != sample.ndim or rows.shape[1:] != sample.shape[1:] or len(rows) == 0:
        expected = ", ".join(map(str, sample.shape[1:]))
        raise ValueError(
            f"edit: directions must have shape [{expected}] or [q, {expected}], got {list(directions.shape)}"
        )
    rows = rows.detach().to(sample.device, sample.dtype)
    if not torch.isfinite(rows).all():
        raise ValueError("edit: directions must be finite, got NaN or Inf")
    largest = rows.flatten(1).abs().amax(1)
    if (largest == 0).any():
        raise ValueError(f"edit: directions must not be zero, got zero at index {int((largest == 0).nonzero()[0])}")
    rows = rows / largest.view(-1, 1, 1, 1)  # first, so that squares of very small entries do not vanish
    return rows / rows.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _check_distances(distance: float | Sequence[float]) -> tuple[float, ...]:
    given: Any = distance
    several = isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str)
    values = list(given) if several else [given]
    if not values:
        raise ValueError("edit: distance must be a number or a non-empty sequence, got an empty one")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"edit: distance must be a number or a sequence of numbers, got {type(value).__name__}")
        if not math.isfinite(value):
            raise ValueError(f"edit: distance must be finite, got {value}")
    return tuple(float(value) for value in values)
