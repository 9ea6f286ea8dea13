"""Walks of a noisy sample, whatever decides on their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from tqdm import tqdm

from latentjac.arguments import check_number
from latentjac.diffusion import Point
from latentjac.editing.diagnostics import Observer
from latentjac.editing.evaluations import Evaluations
from latentjac.editing.lines import Lines
from latentjac.editing.null_space import left_of, remove
from latentjac.editing.questions import Asking, asking
from latentjac.models import Model
from latentjac.shaped import Shaped

_PARTS = 16  # of a way that are kept


@dataclass(frozen=True, repr=False)
class Walks(Shaped):
    """What walks side by side have to do.

    Attributes:
        model: The model.
        point: Where they begin; one sample.
        lines: What they go along, and how far.
        num_steps: Steps of every walk.
        sigma: Standard deviation of the noise at the point.
        evaluations: The network at the point's timestep, and what was seen around the point.
        outside: Directions ``[r, C, H, W]`` that no step may take, or None.
    """

    model: Model
    point: Point
    lines: Lines
    num_steps: int
    sigma: float
    evaluations: Evaluations
    outside: torch.Tensor | None = None

    @property
    def directions(self) -> torch.Tensor:
        """Unit directions ``[w, c, C, H, W]``: walk i goes along the sum of its c directions."""
        return self.lines.directions

    @property
    def distances(self) -> torch.Tensor:
        """Signed way along each of them, in noise standard deviations, ``[w, c]``."""
        return self.lines.ways

    @property
    def steps(self) -> torch.Tensor:
        """Signed length of a step along each direction, in units of the sample, ``[w, c, 1, ..., 1]``."""
        return self.broadcast(self.distances * self.sigma / self.num_steps)

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers ``[w, c]`` as factors of vectors ``[w, c, ...]`` of the shape of a sample."""
        return values.view(*values.shape, *[1] * (self.point.sample.ndim - 1))

    def allowed(self, v: torch.Tensor) -> torch.Tensor:
        """The part of vectors that a step may take."""
        return v if self.outside is None else remove(v, self.outside)

    def unit_allowed(self, v: torch.Tensor) -> torch.Tensor:
        """The same of unit vectors, as unit vectors again."""
        if self.outside is None:
            return v
        return left_of(v, self.outside)


@dataclass(frozen=True, repr=False)
class Way(Shaped):
    """Where walks went: straight lines between the vertices that were kept.

    Attributes:
        steps: How many steps were taken at each vertex, from 0 to all, ascending; a vertex can lie within a step.
        samples: The noisy samples there, ``[vertices, directions, walks, C, H, W]``.
        ends: Distance at which each walk along a direction ends, one for each side that has distances; 1 for composed
            directions, which are one walk.
    """

    steps: tuple[float, ...]
    samples: torch.Tensor
    ends: tuple[float, ...]

    def at(self, fraction: float) -> torch.Tensor:
        """Noisy samples ``[directions, walks, C, H, W]`` after a part of every way, from 0 to 1.

        Raises:
            TypeError: If fraction is not a number.
            ValueError: If it is not in [0, 1].
        """
        fraction = check_number("at", "fraction", fraction, 0, 1, least=True, most=True)
        position = fraction * self.steps[-1]
        after = next(i for i, step in enumerate(self.steps) if step >= position)
        if self.steps[after] == position:
            return self.samples[after]
        weight = (position - self.steps[after - 1]) / (self.steps[after] - self.steps[after - 1])
        return self.samples[after - 1].lerp(self.samples[after], weight)

    def read(self, lines: Lines) -> torch.Tensor:
        """The noisy samples at the distances, ``[directions, distances, C, H, W]``."""
        places = zip(lines.parts, lines.sides, strict=True)
        return torch.stack([self.at(part)[:, side] for part, side in places], 1)


@dataclass(frozen=True, repr=False)
class StepRecord(Shaped):
    """What steps were like, ``[steps, w, c]`` each, of walks w along directions c; None where there is none such.

    Attributes:
        gains: Factors of the noise differences.
        retained: Energies of the directions that the new tangent spaces hold.
        overlaps: ``|<v, v'>|`` of old and new directions, one entry a look-up.
    """

    gains: torch.Tensor | None = None
    retained: torch.Tensor | None = None
    overlaps: torch.Tensor | None = None

    def read(self, lines: Lines, composed: bool) -> StepRecord:
        """The same as ``[steps, directions, distances]``, of the walk that a distance lies on."""
        parts = (self.gains, self.retained, self.overlaps)
        if composed:
            return StepRecord(*(None if part is None else part.mT for part in parts))
        return StepRecord(*(None if part is None else lines.read(part[..., 0]) for part in parts))


class Steps(Protocol):
    """Decides on the steps of walks."""

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor | Asking[torch.Tensor]:
        """Where all walks go next, ``[w, C, H, W]``, from where they are; numbers count from 0.

        A walk of second order takes it for the direction of the way at x, with the length of a step. A step that asks
        the network can be a generator of questions, which are answered together with those of other edits.
        """
        ...

    def record(self) -> StepRecord:
        """What the steps so far were like."""
        ...


def walk(
    walks: Walks,
    steps: Steps,
    observer: Observer | None,
    bar: tqdm,
    *,
    order: int = 1,
    keep: tuple[float, ...] | None = None,
) -> Asking[Way]:
    """Take all steps of all walks; an observer sees every one.

    Args:
        walks: What to do.
        steps: Decides on the steps.
        observer: Measures them.
        bar: Progress bar to update once a step.
        order: 1 takes every step as it is. 2 goes on by the method of Adams and Bashforth, and corrects every step but
            the last by the trapezoidal rule once the next one is known, which takes no further evaluation.
        keep: After how many steps to keep where the walks are; by default after 16 equal parts of them and at the
            distances.
    """
    num_steps, lines = walks.num_steps, walks.lines
    if keep is None:
        parts = {i / _PARTS for i in range(_PARTS + 1)} | {*lines.parts}
        keep = tuple(part * num_steps for part in sorted(parts))
    # Where the step under way begins, and where it leads as far as is known; there the next one is decided on.
    start = walks.point.sample.expand(len(walks.directions), *walks.point.sample.shape[1:]).clone()
    kept, x = [start for position in keep if position == 0], start
    before: torch.Tensor | None = None
    step: Step | None = None
    for number in range(num_steps + 1):
        now = (yield from asking(steps.step(number, x))) if number < num_steps else None
        if step is not None:
            if order == 2 and now is not None and before is not None:
                step = Step.between(before, now)
            kept += [start + step.part(at - number + 1) for at in keep if number - 1 < at <= number]
            start = start + step.part(1.0)
        if now is None:
            break
        step = Step.ahead(now, before if order == 2 else None)
        there = start + step.part(1.0)
        if observer is not None:
            yield from observer.see(number, x, there - x, step.length)
        before, x = now, there
        bar.update()
    if observer is not None:
        yield from observer.end(x)
    return Way(keep, torch.stack(kept).unflatten(1, lines.layout), lines.ends)


class Step:
    """A step along a way whose direction changes from ``now`` by ``bend``: ``now + bend / 2``, and its parts.

    It is made as long as it is said to be, which changes no more than the third order: where all directions of a way
    have one length, it is as long as it has to be.

    Attributes:
        length: Of the step, ``[w, 1, 1, 1]``.
    """

    def __init__(self, now: torch.Tensor, bend: torch.Tensor, length: torch.Tensor) -> None:
        self._now, self._bend, self.length = now, bend, length
        size = _size(now + bend / 2)
        self._factor = torch.where(size > 0, length / size, 1.0)

    @classmethod
    def ahead(cls, now: torch.Tensor, before: torch.Tensor | None) -> Step:
        """The step that goes on as the direction changed in the last one (Adams and Bashforth), or straight on."""
        if before is None:
            return cls(now, torch.zeros_like(now), _size(now))
        return cls(now, now - before, (1.5 * _size(now) - 0.5 * _size(before)).clamp_min(0))

    @classmethod
    def between(cls, before: torch.Tensor, now: torch.Tensor) -> Step:
        """The step from where the direction was the one to where it is the other (trapezoidal rule)."""
        return cls(before, now - before, (_size(before) + _size(now)) / 2)

    def part(self, fraction: float) -> torch.Tensor:
        """The step up to a part of it, from 0 to 1."""
        change = fraction * self._now + fraction**2 / 2 * self._bend
        return (1 + fraction * (self._factor - 1)) * change


def _size(v: torch.Tensor) -> torch.Tensor:
    """Norms ``[w, 1, 1, 1]`` of samples."""
    return v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
