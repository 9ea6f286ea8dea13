"""The straight walk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.walk import StepRecord, Walks
from latentjac.geometry.linearity import Linearity


@dataclass(frozen=True, kw_only=True)
class Linear(XSpaceMethod):
    """Steps ``x <- x + s v`` (Chen et al. 2024, section 3): the network has no say in them.

    The options are those of :class:`latentjac.editing.XSpaceMethod`; the number of steps only decides how finely the
    walk is measured.
    """

    @property
    def usual_steps(self) -> int:
        """Enough to measure a way by."""
        return 4

    def longest_step(self, radius: float) -> float:
        """Any: a straight line is the same however it is divided."""
        return math.inf

    def steps(self, walks: Walks, layer: str, linearity: tuple[Linearity, ...] | None) -> StraightSteps:
        """The same step every time."""
        return StraightSteps(walks)


class StraightSteps:
    """The same step every time."""

    def __init__(self, walks: Walks) -> None:
        self._change = (walks.steps * walks.directions).sum(1)

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """``d sigma v / num_steps``, summed over the directions of each walk."""
        return self._change

    def record(self) -> StepRecord:
        """Nothing: all is known before."""
        return StepRecord()
