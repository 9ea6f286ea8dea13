"""Walks of a noisy sample, whatever decides on their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from tqdm import tqdm

from latentjac.arguments import check_number
from latentjac.diffusion import Point
from latentjac.editing.diagnostics import Observer
from latentjac.editing.null_space import left_of, remove
from latentjac.models import Model
from latentjac.shaped import Shaped

_MOST_PARTS = 16  # of a way that is kept


@dataclass(frozen=True, repr=False)
class Walks(Shaped):
    """What walks side by side have to do.

    Attributes:
        model: The model.
        point: Where they begin; one sample.
        directions: Unit directions ``[w, c, C, H, W]``: walk i goes along the sum of its c directions.
        distances: Signed way along each of them, in noise standard deviations, ``[w, c]``.
        num_steps: Steps of every walk.
        sigma: Standard deviation of the noise at the point.
        outside: Directions ``[r, C, H, W]`` that no step may take, or None.
    """

    model: Model
    point: Point
    directions: torch.Tensor
    distances: torch.Tensor
    num_steps: int
    sigma: float
    outside: torch.Tensor | None = None

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
        steps: How many steps were taken at each vertex, from 0 to all, ascending.
        samples: The noisy samples there, ``[vertices, directions, distances, C, H, W]``.
    """

    steps: tuple[int, ...]
    samples: torch.Tensor

    def at(self, fraction: float) -> torch.Tensor:
        """Noisy samples ``[directions, distances, C, H, W]`` after a part of every way, from 0 to 1.

        Raises:
            TypeError: If fraction is not a number.
            ValueError: If it is not in [0, 1].
        """
        fraction = check_number("at", "fraction", fraction, 0, 1, least=True, most=True)
        position = fraction * self.steps[-1]
        after = next(i for i, step in enumerate(self.steps) if step >= position)
        before = max(after - 1, 0)
        weight = (position - self.steps[before]) / max(1, self.steps[after] - self.steps[before])
        return self.samples[before].lerp(self.samples[after], weight)


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

    def laid_out(self, layout: tuple[int, int]) -> StepRecord:
        """The same as ``[steps, *layout]``."""
        parts = (self.gains, self.retained, self.overlaps)
        return StepRecord(*(None if part is None else part.view(-1, *layout) for part in parts))


class Steps(Protocol):
    """Decides on the steps of walks."""

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Where all walks go next, ``[w, C, H, W]``, from where they are; numbers count from 0."""
        ...

    def record(self) -> StepRecord:
        """What the steps so far were like."""
        ...


def walk(
    walks: Walks,
    steps: Steps,
    observer: Observer,
    bar: tqdm,
    layout: tuple[int, int],
    keep: tuple[int, ...] | None = None,
) -> Way:
    """Take all steps of all walks; the observer sees every one.

    Args:
        walks: What to do.
        steps: Decides on the steps.
        observer: Measures them.
        bar: Progress bar to update once a step.
        layout: Directions and distances of the walks in the result.
        keep: After how many steps to keep where the walks are; by default after up to 16 equal parts of them.
    """
    x = walks.point.sample.expand(len(walks.directions), *walks.point.sample.shape[1:]).clone()
    if keep is None:
        parts = min(walks.num_steps, _MOST_PARTS)
        keep = tuple(round(i * walks.num_steps / parts) for i in range(parts + 1))
    kept = dict.fromkeys(keep, x)
    for number in range(walks.num_steps):
        change = steps.step(number, x)
        observer.see(number, x, change)
        x = x + change
        if number + 1 in kept:
            kept[number + 1] = x
        bar.update()
    return Way(tuple(kept), torch.stack(list(kept.values())).unflatten(1, layout))
