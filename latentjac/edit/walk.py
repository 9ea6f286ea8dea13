"""Walks of a noisy sample, whatever decides on their steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from tqdm import tqdm

from latentjac.diffusion import Point
from latentjac.edit.diagnostics import Observer
from latentjac.edit.null_space import project_out, remove
from latentjac.models import Model


@dataclass(frozen=True)
class Walks:
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
    directions: torch.Tensor = field(repr=False)
    distances: torch.Tensor
    num_steps: int
    sigma: float
    outside: torch.Tensor | None = field(default=None, repr=False)

    @property
    def steps(self) -> torch.Tensor:
        """Signed length of a step along each direction, in units of the sample, ``[w, c, 1, 1, 1]``."""
        return (self.distances * self.sigma / self.num_steps)[..., None, None, None]

    def allowed(self, v: torch.Tensor) -> torch.Tensor:
        """The part of vectors that a step may take."""
        return v if self.outside is None else remove(v, self.outside)

    def unit_allowed(self, v: torch.Tensor) -> torch.Tensor:
        """The same of unit vectors, as unit vectors again."""
        if self.outside is None:
            return v
        return project_out(v, self.outside)


class Method(Protocol):
    """Decides on the steps of walks."""

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Where all walks go next, ``[w, C, H, W]``, from where they are; numbers count from 0."""
        ...


class Linear:
    """The straight walk ``x + d sigma v`` (Chen et al. 2024, section 3): the network has no say in it."""

    def __init__(self, walks: Walks) -> None:
        self._change = (walks.steps * walks.directions).sum(1)

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The same step every time."""
        return self._change


def walk(walks: Walks, method: Method, observer: Observer, bar: tqdm) -> torch.Tensor:
    """Where walks end, ``[w, C, H, W]``; the observer sees every step."""
    x = walks.point.sample.expand(len(walks.directions), *walks.point.sample.shape[1:]).clone()
    for number in range(walks.num_steps):
        change = method.step(number, x)
        observer.see(number, x, change)
        x = x + change
        bar.update()
    return x
