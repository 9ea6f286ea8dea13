"""Distances along directions as points of few walks: one for each direction and side, up to its farthest distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class Lines(Shaped):
    """Walks, and where on them the distances lie.

    Attributes:
        directions: Unit directions ``[w, c, ...]``: walk i goes along the sum of its c directions.
        ways: Signed way along each of them, ``[w, c]``.
        rows: Which of the given directions each is, ``[w, c]``.
        ends: Distance where the walk of each side ends; 1 for composed directions, which are one walk.
        sides: For each column of the result, which side it lies on.
        parts: For each column, after which part of that walk, from 0 to 1.
    """

    directions: torch.Tensor
    ways: torch.Tensor
    rows: torch.Tensor
    ends: tuple[float, ...]
    sides: tuple[int, ...]
    parts: tuple[float, ...]

    @classmethod
    def along(cls, rows: torch.Tensor, distances: tuple[float, ...], compose: bool) -> Lines:
        """The walks along unit directions ``[q, ...]`` that pass all distances."""
        numbers = torch.arange(len(rows), device="cpu")
        if compose:
            return cls(rows[None], rows.new_tensor(distances)[None], numbers[None], (1.0,), (0,), (1.0,))
        # The farthest one below zero and the farthest one above, where there are such.
        ends = tuple(end for end in (min(0.0, *distances), max(0.0, *distances)) if end) or (0.0,)
        sides = tuple(next((i for i, end in enumerate(ends) if d and (d > 0) == (end > 0)), 0) for d in distances)
        parts = tuple(d / ends[side] if d else 0.0 for d, side in zip(distances, sides, strict=True))
        ways = rows.new_tensor(ends).repeat(len(rows))
        repeated = rows.repeat_interleave(len(ends), 0)
        return cls(repeated[:, None], ways[:, None], numbers.repeat_interleave(len(ends))[:, None], ends, sides, parts)

    @property
    def layout(self) -> tuple[int, int]:
        """Directions and sides of the walks; composed ones are one of each."""
        return len(self.directions) // len(self.ends), len(self.ends)

    @property
    def signs(self) -> tuple[float, ...]:
        """Signs of the ways that are walked along any direction, at least one."""
        return tuple(sign for sign in (1.0, -1.0) if (self.ways * sign > 0).any()) or (1.0,)

    def read(self, values: torch.Tensor) -> torch.Tensor:
        """Values of walks ``[..., w]`` as ``[..., directions, distances]``: of the walk that a distance lies on."""
        return values.unflatten(-1, self.layout)[..., list(self.sides)]

    def read_parts(self, lengths: torch.Tensor) -> torch.Tensor:
        """Lengths after each step of walks, ``[1 + steps, w]``, at the distances, ``[directions, distances]``."""
        steps = len(lengths) - 1
        columns = []
        for part, side in zip(self.parts, self.sides, strict=True):
            before = min(int(part * steps), steps - 1)
            here = lengths[before].lerp(lengths[before + 1], part * steps - before)
            columns.append(here.view(self.layout)[:, side])
        return torch.stack(columns, 1)
