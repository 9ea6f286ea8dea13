"""Points of several items as one, for what the library does for several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from latentjac.diffusion import Point
from latentjac.models import Conditioning


def groups(points: Sequence[Point]) -> list[list[int]]:
    """Which points can be one: those of the same levels, whose conditionings join."""
    found: list[list[int]] = []
    for i, point in enumerate(points):
        fitting = (group for group in found if _fits(points[group[0]], point))
        group = next(fitting, None)
        if group is None:
            found.append([i])
        else:
            group.append(i)
    return found


def _fits(one: Point, other: Point) -> bool:
    same = one.level == other.level and one.schedule == other.schedule
    return same and one.conditioning._joins(other.conditioning)


def joined(points: Sequence[Point]) -> Point:
    """One point of all samples, in order."""
    if len(points) == 1:
        return points[0]
    under = Conditioning._joined([point.conditioning for point in points], [len(point.sample) for point in points])
    return replace(points[0], sample=torch.cat([point.sample for point in points]), conditioning=under)
