"""Networks of several of which the level of noise chooses one, as those of Wan 2.2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from latentjac.kernels.guards import is_traced_here

_chosen: ContextVar[str | None] = ContextVar("latentjac_stage", default=None)


class Staged(torch.nn.Module):
    """Two networks, one above a timestep and one below.

    Attributes:
        above: Name of the one that is used from the boundary on.
        below: Name of the other.
        boundary: The timestep.
    """

    above, below = "", ""
    boundary: float

    def part_at(self, t: torch.Tensor) -> str | None:
        """Name of the network that is used at timesteps ``[]`` or ``[B]``, whose values are read; None for both."""
        high = t >= self.boundary
        if bool(high.all()):
            return self.above
        return None if bool(high.any()) else self.below

    def part(self, t: torch.Tensor) -> str | None:
        """The same, or the one that was chosen before: a trace reads no values."""
        return _chosen.get() or self.part_at(t)


@contextmanager
def choosing(part: str | None) -> Iterator[None]:
    """Have staged networks use one of theirs, whatever the timesteps; None leaves it to these."""
    token = _chosen.set(part)
    try:
        yield
    finally:
        _chosen.reset(token)


def part_at(network: Any, t: torch.Tensor) -> str | None:
    """Which network of several is used at timesteps; None where there is one only, or both are used."""
    return network.part_at(t) if isinstance(network, Staged) else None


def of_part(network: Any, part: str | None, features: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A feature map of ``(x, t, conditioning)`` that holds where one of several networks is used, and nowhere else."""
    if part is None:
        return features

    def of_chosen(x: torch.Tensor, t: torch.Tensor, conditioning: Any) -> torch.Tensor:
        if not is_traced_here() and network.part_at(t) != part:
            where = f"{network.boundary:g} or above" if part == network.above else f"below {network.boundary:g}"
            raise ValueError(
                f"linearization: t must be {where}, where {part!r} is used, got {t.tolist()}: linearize anew there"
            )
        with choosing(part):
            return features(x, t, conditioning)

    return of_chosen
