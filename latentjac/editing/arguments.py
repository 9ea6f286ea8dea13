"""What edits accept, and the messages for what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from latentjac.arguments import check_number, check_sequence
from latentjac.edit_options import FARTHEST


def set_checked(options: object, **values: Any) -> None:
    """Give fields of a frozen dataclass their plain forms, from its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(options, name, value)


def one_each(function: str, argument: str, given: Any, count: int, of: str = "points") -> list[Any]:
    """What each of several points or samples gets: a list has one for each, anything else is that of all."""
    if not isinstance(given, (list, tuple)):
        return [given] * count
    if len(given) != count:
        raise ValueError(f"{function}: {argument} must be one for all or {count} (as many as {of}), got {len(given)}")
    return list(given)


def unit_directions(
    directions: torch.Tensor, like: torch.Tensor, function: str = "edit", argument: str = "directions"
) -> torch.Tensor:
    """Directions as unit rows ``[q, ...]`` with the shape, type and device of one row of ``like``."""
    rows = directions[None] if directions.ndim == like.ndim - 1 else directions
    if rows.ndim != like.ndim or rows.shape[1:] != like.shape[1:] or len(rows) == 0:
        expected = ", ".join(map(str, like.shape[1:]))
        raise ValueError(
            f"{function}: {argument} must have shape [{expected}] or [q, {expected}], got {list(directions.shape)}"
        )
    largest = rows.flatten(1).abs().amax(1)
    if (largest == 0).any():
        raise ValueError(
            f"{function}: {argument} must not be zero, got zero at index {int((largest == 0).nonzero()[0])}"
        )
    column = (-1, *[1] * (rows.ndim - 1))
    # First, so that squares of very small entries do not vanish, nor large ones in a shorter type.
    rows = (rows / largest.view(column)).to(like.device, like.dtype)
    return rows / rows.flatten(1).norm(dim=1).view(column)


def check_distances(distance: float | Sequence[float]) -> tuple[float, ...]:
    """Distances as a tuple of finite numbers."""
    several = isinstance(distance, (Sequence, np.ndarray)) and not isinstance(distance, (str, bytes))
    values = check_sequence("edit", "distance", distance, "numbers") if several else [distance]
    return tuple(check_number("edit", "distance", value, -FARTHEST, FARTHEST) for value in values)


def check_composed(rows: torch.Tensor, distances: tuple[float, ...], compose: bool) -> None:
    """Raise if directions are to be composed and there is not one distance for each."""
    if compose and len(distances) != len(rows):
        raise ValueError(
            f"edit: distance must hold one number for each of {len(rows)} directions with compose=True, "
            f"got {len(distances)}"
        )


def grouped(
    rows: torch.Tensor, distances: tuple[float, ...], compose: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """What each walk follows: directions ``[w, c, ...]``, ways ``[w, c]`` and how walks are laid out in results."""
    if compose:
        return rows[None], rows.new_tensor(distances)[None], (1, 1)
    ways = rows.new_tensor(distances).repeat(len(rows))
    return rows.repeat_interleave(len(distances), 0)[:, None], ways[:, None], (len(rows), len(distances))
