"""Networks as they are: for schedulers of diffusers, which make of samples and outputs what they need themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from latentjac.models.levels import Grid, Levels
from latentjac.models.predictions import Prediction

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class AsGiven(Levels):
    """No levels: samples and timesteps reach the network as they are, and its output stands for both predictions.

    Attributes:
        variance: Whether a learned variance, behind the prediction, belongs to the output.
    """

    variance: bool = False

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """There are none."""
        raise NotImplementedError

    def grid(self, scheduler: Any) -> Grid:
        """There is none."""
        raise NotImplementedError

    def nearest(self, ratio: float) -> float:
        """There is none."""
        raise NotImplementedError

    def used(self, out: Tensor, x: Tensor) -> Tensor:
        """See :class:`Levels`."""
        return out if self.variance else super().used(out, x)

    def predicted(self, out: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """The output, twice."""
        return Prediction(out, out)

    def holds(self, timestep: float) -> bool:
        """All are: schedulers have some of their own."""
        return True
