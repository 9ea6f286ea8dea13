"""How far an edit has to go for the picture to change by as much as was asked for."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from latentjac.edit_options import CHANGE, DISTANCE
from latentjac.editing.diagnostics import change_inside
from latentjac.editing.edit import walked
from latentjac.editing.methods.method import Job, Method
from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.result import Walked
from latentjac.models.codec import decoded
from latentjac.shaped import Shaped
from latentjac.solvers import Status

MOST_ROUNDS = 12
_LEAST_GROWTH, _MOST_GROWTH = 1.05, 3.0  # of a distance beyond all that were measured


class Curve:
    """The change of a picture by the distance on one side of a direction: straight lines through what was measured."""

    def __init__(self, measured: Iterable[tuple[float, float]] = ()) -> None:
        """Begin with pairs of distance and change, both without signs; at 0 nothing changes."""
        self._known = [(0.0, 0.0)]
        for distance, change in measured:
            self.add(distance, change)

    def add(self, distance: float, change: float) -> None:
        """Note what was measured at a distance."""
        place = bisect.bisect_left(self._known, (distance,))
        if place < len(self._known) and self._known[place][0] == distance:
            self._known.pop(place)
        bisect.insort(self._known, (distance, change))

    def distance_for(self, change: float) -> float:
        """The first distance with a change; beyond what was measured as its last part goes on, within limits.

        Where nothing was measured, it is what is usual.
        """
        for (near, below), (far, above) in pairwise(self._known):
            if above >= change:
                return near + (far - near) * (change - below) / (above - below) if above > below else near
        if len(self._known) == 1:
            return DISTANCE * min(change / CHANGE, 1.0)
        (near, below), (far, above) = self._known[-2:]
        slope = (above - below) / (far - near)
        wanted = far + (change - above) / slope if slope > 0 else math.inf
        return min(max(wanted, _LEAST_GROWTH * far), _MOST_GROWTH * far)

    def change_at(self, distance: float) -> float:
        """The change at a distance; that of the last one measured beyond it."""
        for (near, below), (far, above) in pairwise(self._known):
            if distance <= far:
                return below + (above - below) * (distance - near) / (far - near)
        return self._known[-1][1]


@dataclass(frozen=True, repr=False)
class Calibrated(Shaped):
    """A walk whose distances were chosen by what they change.

    Attributes:
        walked: The walk.
        status: Of the bases that it is built on.
        pictures: What its samples are decoded to, ``[values, C, H, W]``.
        changes: RMS change of each, float64 ``[values]``.
        reached: Whether each is as asked for, to the tolerance.
        curves: What was measured on the side below zero and on the one above.
    """

    walked: Walked
    status: Status | None
    pictures: torch.Tensor
    changes: torch.Tensor
    reached: tuple[bool, ...]
    curves: tuple[Curve, Curve]


@dataclass
class _Search:
    """One walk that is repeated until its changes are those asked for."""

    job: Job
    values: tuple[float, ...]
    unit: float
    tolerance: float
    unchanged: torch.Tensor
    farthest: float
    guess: tuple[float, ...] | None
    found: Calibrated | None = None

    def __post_init__(self) -> None:
        self.curves = Curve(), Curve()
        self.distances = self.guess or tuple(self._distance(value) for value in self.values)

    def _distance(self, value: float) -> float:
        far = self.curves[value > 0].distance_for(abs(value) * self.unit) if value else 0.0
        return math.copysign(min(far, self.farthest), value)

    def see(self, way: Walked, status: Status | None) -> bool:
        """Note what the distances changed; whether that is all that can be had."""
        pictures = decoded(self.job.model, way.samples.flatten(0, 1))
        inside = None if self.job.mask is None else self.job.mask.pixels
        changes = change_inside(pictures, self.unchanged, inside)
        for distance, change in zip(self.distances, changes.tolist(), strict=True):
            if distance:
                self.curves[distance > 0].add(abs(distance), change)
        wanted = torch.tensor(self.values, dtype=torch.float64, device="cpu").abs() * self.unit
        reached = ((changes - wanted).abs() <= self.tolerance * self.unit).tolist()
        self.found = Calibrated(way, status, pictures, changes, tuple(reached), self.curves)
        before, rows = self.distances, zip(self.values, self.distances, reached, strict=True)
        self.distances = tuple(old if fine else self._distance(value) for value, old, fine in rows)
        return self.distances == before


def walk_to_changes(
    function: str,
    method: Method,
    jobs: Sequence[Job],
    values: Sequence[tuple[float, ...]],
    unit: float,
    unchanged: Sequence[torch.Tensor],
    guesses: Sequence[tuple[float, ...] | None],
    tolerance: float,
    *,
    repeat: bool = True,
) -> list[Calibrated]:
    """Walk along one direction from each point until pictures change as much as asked for.

    Every round walks anew, all walks side by side, to distances read from what the rounds before have measured; what is
    handed back is the walk that was measured last.

    Args:
        function: Who asks, for messages.
        method: How to walk.
        jobs: Where from and along what; their distances are chosen here.
        values: For each job, signed parts of the unit.
        unit: RMS change that a value of 1 stands for.
        unchanged: For each job, the picture without an edit.
        guesses: For each job, the distances to begin with, one a value; None to begin anywhere.
        tolerance: Largest error of a change, in units.
        repeat: Go on after the first round.
    """
    searches = []
    for job, wanted, picture, guess in zip(jobs, values, unchanged, guesses, strict=True):
        if isinstance(method, XSpaceMethod):
            job = replace(job, outside=method.outside(job))  # once for all rounds
        # No direction leads farther than the noise itself is long.
        farthest = math.sqrt(job.directions.numel())
        searches.append(_Search(job, wanted, unit, tolerance, picture, farthest, guess))
    waiting = searches
    for _ in range(MOST_ROUNDS if repeat else 1):
        now = [replace(search.job, distances=search.distances) for search in waiting]
        ways = walked(function, method, now)
        waiting = [search for search, way in zip(waiting, ways, strict=True) if not search.see(*way)]
        if not waiting:
            break
    found = [search.found for search in searches]
    assert all(entry is not None for entry in found)
    return found  # type: ignore[return-value]
