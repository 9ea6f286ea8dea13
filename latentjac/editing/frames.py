"""Pictures on the way of an edit, evenly from its one end to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from latentjac.arguments import check_bool, check_int, check_kind, check_number, check_sequence, check_tensor, shown
from latentjac.diffusion import Point, place
from latentjac.editing.methods.method import Job
from latentjac.editing.result import Edit
from latentjac.models import Model
from latentjac.models.codec import decoded, media_of, stills
from latentjac.public import public
from latentjac.stopping import Bar

MOST_FRAMES = 10_000


@dataclass(frozen=True)
class Frames:
    """Pictures along one direction.

    Attributes:
        images: From the lowest to the highest distance.
        distances: Distance of each, in the unit of the edit; for composed directions the part of the way, 0 to 1.
    """

    images: list[Image.Image] = field(repr=False)
    distances: tuple[float, ...]


@public
@torch.no_grad()
def walk_frames(
    model: Model,
    point: Point,
    edit: Edit,
    direction: int = 0,
    count: int = 13,
    *,
    distances: Sequence[float] | None = None,
    unmoved: torch.Tensor | None = None,
    progress: bool = False,
) -> Frames:
    """Pictures along a direction of an edit: evenly from its lowest to its highest distance by way of 0, or at others.

    Of videos they are the middle frames.

    Nothing is walked again: the noisy samples are those that the walks to both sides came through. Making an image of
    each costs as many network evaluations as there are levels below the point, but for those that the edit has made.
    It costs half of them where the edit has at least four pictures along the direction, with the one at 0 if a photo or
    a mask was given, and what was predicted on the way to each is about what the others foretell: then it is foretold
    for those between, too, and the network is asked at every other level.

    Args:
        model: The model.
        point: Where the edit was made.
        edit: The edit.
        direction: Index of the direction; 0 for composed ones.
        count: How many pictures, at most ``MOST_FRAMES``.
        distances: Of the pictures, instead of ``count`` that are evenly spread; each between the ends of the walks.
        unmoved: Clean sample ``[1, ...]`` that the point itself leads to, in the middle of every way: the
            ``reconstruction`` of a trajectory that ends at the point. Without, it is computed again.
        progress: Show a progress bar.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, the point does not fit the model, or its samples are no pictures.
    """
    schedule, level = place("walk_frames", model, point)
    if media_of(model) not in ("pictures", "videos"):
        shape = list(model.sample_shape)
        raise ValueError(f"walk_frames: model must be one of pictures or videos, got one of samples {shape}")
    check_kind("walk_frames", "edit", edit, Edit, "a latentjac.Edit")
    direction, count = _check(edit, direction, count)
    job = Job(model, point, schedule, level, edit.directions, edit.distances, edit.composed)
    progress = check_bool("walk_frames", "progress", progress)
    low, high = (0.0, 1.0) if edit.composed else (min(0.0, *edit.distances), max(0.0, *edit.distances))
    wanted = _evenly(low, high, count) if distances is None else _checked_distances(distances, low, high)
    spacing = (high - low) / len(wanted)
    made = [_made(edit, direction, distance, spacing) for distance in wanted]
    if unmoved is not None:
        base = _checked_unmoved(unmoved, point)
        made = [base if abs(d) < 1e-9 * spacing else sample for d, sample in zip(wanted, made, strict=True)]
    between = [distance for distance, sample in zip(wanted, made, strict=True) if sample is None]
    with Bar("frames", level, shown=progress) as bar:
        rest = iter(edit.method.samples_between(job, edit, direction, between, bar) if between else ())
    samples = torch.stack([next(rest) if sample is None else sample for sample in made])
    pictures = decoded(model, samples)
    if edit.residual is not None:
        pictures = (pictures + edit.residual).clamp(0, 1)
    return Frames(stills(model, pictures), tuple(wanted))


def _made(edit: Edit, direction: int, distance: float, spacing: float) -> torch.Tensor | None:
    """The clean sample that the edit has for a distance, up to the rounding of distances; None where it has none."""
    own = (1.0,) if edit.composed else edit.distances
    near = (i for i, other in enumerate(own) if abs(other - distance) < 1e-9 * spacing)
    column = next(near, None)
    return None if column is None else edit.samples[direction, column]


def _evenly(low: float, high: float, count: int) -> list[float]:
    return torch.linspace(low, high, count, dtype=torch.float64, device="cpu").tolist()  # type: ignore[no-any-return]


def _checked_distances(distances: Any, low: float, high: float) -> list[float]:
    name, given = "walk_frames", check_sequence("walk_frames", "distances", distances, "numbers")
    if not 1 <= len(given) <= MOST_FRAMES:
        raise ValueError(f"{name}: distances must be 1 to {MOST_FRAMES}, got {len(given)}")
    return [check_number(name, f"distances[{i}]", d, low, high, least=True, most=True) for i, d in enumerate(given)]


def _checked_unmoved(unmoved: Any, point: Point) -> torch.Tensor:
    unmoved = check_tensor("walk_frames", "unmoved", unmoved)
    if unmoved.shape != point.sample.shape:
        expected, got = list(point.sample.shape), list(unmoved.shape)
        raise ValueError(f"walk_frames: unmoved must have shape {expected} as the sample of the point, got {got}")
    return unmoved[0].to(point.sample)


def _check(edit: Edit, direction: Any, count: Any) -> tuple[int, int]:
    count = check_int("walk_frames", "count", count, 2, MOST_FRAMES)
    direction = check_int("walk_frames", "direction", direction)
    if not 0 <= direction < len(edit.samples):
        raise ValueError(f"walk_frames: direction must be in [0, {len(edit.samples)}), got {shown(direction)}")
    return direction, count
