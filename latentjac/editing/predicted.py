"""What was predicted on the ways of edited samples down, and what follows for samples between them.

Predictions change smoothly with the distance along a direction. Between the pictures that an edit has they follow from
theirs, nearly: the network is asked at every other level, and by how much it disagrees is carried to the next ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from latentjac.diffusion import Schedule
from latentjac.diffusion.ode_solvers import Predictor, extrapolation
from latentjac.models import Prediction
from latentjac.shaped import Shaped

MOST_BYTES = 2**28  # of predictions that an edit keeps
_MOST_NODES = 5  # of an interpolation
_LEAST_NODES = 4  # where one of them can be foreseen from the others
_FORESEEN = 0.25  # by how much of the largest change a node may be off what the others say


@dataclass(frozen=True, repr=False)
class Predicted(Shaped):
    """Clean samples that were predicted on ways down.

    Attributes:
        levels: Where, of the schedule, from the point down.
        x0: Of each sample at each level, ``[n, levels, C, H, W]``; of an edit ``[directions, distances, levels, C, H,
            W]``.
    """

    levels: tuple[int, ...]
    x0: torch.Tensor

    def of_edit(self, directions: int, distances: int) -> Predicted:
        """The same, of the samples of an edit."""
        return Predicted(self.levels, self.x0.unflatten(0, (directions, distances)))


@dataclass(frozen=True, repr=False)
class Nodes(Shaped):
    """Samples along one direction on whose ways predictions are known.

    Attributes:
        distances: Of each, ascending.
        predicted: On their ways, ``x0 [n, levels, C, H, W]``.
    """

    distances: tuple[float, ...]
    predicted: Predicted

    @classmethod
    def sorted(cls, distances: Sequence[float], predicted: Predicted) -> Nodes:
        """The nodes of samples in any order, of which some may have one distance."""
        first = {distance: i for i, distance in reversed(list(enumerate(distances)))}
        rows = [first[distance] for distance in sorted(first)]
        return cls(tuple(sorted(first)), Predicted(predicted.levels, predicted.x0[rows]))

    def foretell(self) -> bool:
        """Whether each node but the outer ones is about what the others say, so that those between them will be."""
        count, x0 = len(self.distances), self.predicted.x0
        if count < _LEAST_NODES:
            return False
        everyone = range(count)
        largest = max(_size(row - x0[0]) for row in x0)
        foreseen = (self._between([self.distances[i]], [j for j in everyone if j != i]) for i in everyone[1:-1])
        return all(_size(row - x0[i]) <= _FORESEEN * largest for i, (row,) in enumerate(foreseen, 1))

    def between(self, distances: Sequence[float]) -> Predicted:
        """What will about be predicted on the ways of samples at other distances."""
        return Predicted(self.predicted.levels, self._between(distances, range(len(self.distances))))

    def _between(self, distances: Sequence[float], rows: Sequence[int]) -> torch.Tensor:
        """By polynomials through the nearest of some nodes."""
        x0 = self.predicted.x0
        return torch.tensordot(x0.new_tensor([self._weights(distance, rows) for distance in distances]), x0, 1)

    def _weights(self, distance: float, rows: Sequence[int]) -> list[float]:
        """Of each node in the polynomial (of Lagrange) through those that are nearest to a distance."""
        near = sorted(rows, key=lambda i: abs(self.distances[i] - distance))[:_MOST_NODES]
        weights = [0.0] * len(self.distances)
        for i in near:
            others = [self.distances[j] for j in near if j != i]
            weights[i] = math.prod((distance - other) / (self.distances[i] - other) for other in others)
        return weights


class SetRight:
    """Predictions about which something is known: a network is asked at every other level, and sets right the others.

    By how much it disagrees is extrapolated to the levels in which it is not asked, linear in the logarithm of noise to
    signal, and at most as far as between the last two at which it was.

    Attributes:
        asked: Levels at which the network is asked; the first of all and the last among them.
    """

    def __init__(self, evaluate: Predictor, schedule: Schedule, about: Predicted) -> None:
        levels, count = about.levels, (len(about.levels) + 1) // 2
        self.asked = {levels[round(i * (len(levels) - 1) / max(1, count - 1))] for i in range(count)}
        self._evaluate, self._schedule = evaluate, schedule
        self._about = {level: about.x0[:, i] for i, level in enumerate(levels)}
        self._off: list[tuple[torch.Tensor, int]] = []  # at the last two levels where it was asked

    def __call__(self, x: torch.Tensor, level: int) -> Prediction:
        """Of samples at a level; levels come in their order."""
        about = self._about[level]
        if level in self.asked:
            found = self._evaluate(x, level)
            self._off = [*self._off[-1:], (found.x0 - about, level)]
            return found
        off, last = self._off[-1]
        if len(self._off) == 2:
            before, first = self._off[0]
            off = off + min(1.0, extrapolation(self._schedule, first, last, level)) * (off - before)
        x0 = about + off
        return Prediction(x0, (x - self._schedule.signals[level] * x0) / self._schedule.noises[level])


def _size(values: torch.Tensor) -> float:
    return float(values.double().norm())
