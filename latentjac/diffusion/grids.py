"""Where the levels between a picture and noise lie: grids, objects that hold exactly their own options.

A level is told by its ratio of noise to signal, s. All but the scheduler's own begin at the cleanest level that the
network was trained for, with the picture there. A first level without noise would make the first step up nearly
singular: the network sees no noise where the step needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from latentjac.arguments import check_number
from latentjac.models.levels import Grid as Placed
from latentjac.models.levels import Levels
from latentjac.models.placing import grid_of
from latentjac.models.schedulers import levels_of

# Where hardly anything is left of a picture; what lies beyond is left to the last step up.
LARGEST_RATIO = 200.0
_MOST_RHO = 1000.0


@dataclass(frozen=True)
class Own:
    """Those that the scheduler places; of a grid that ends earlier, those of its levels up to there."""

    def place(self, function: str, scheduler: Any, steps: int, tokens: int | None, t: float, placement: str) -> Placed:
        """The levels of a scheduler, from the clean one.

        Args:
            function: For messages.
            scheduler: Of diffusers.
            steps: How many levels above the clean one; of the whole grid, where this one ends earlier.
            tokens: Of a sample, for schedulers with dynamic shifting.
            t: Fraction of T where the grid ends.
            placement: Of the scheduler's own, for flows; see :meth:`latentjac.diffusion.Schedule.from_scheduler`.

        Raises:
            ValueError: If there are no such levels.
        """
        placed = grid_of(function, scheduler, steps, tokens, placement)
        if t == 1:
            return placed
        end = t * levels_of(function, scheduler).num_train_timesteps
        top = min(range(1, len(placed.timesteps)), key=lambda i: abs(placed.timesteps[i] - end))
        return Placed(*(values[: top + 1] for values in placed))


@dataclass(frozen=True)
class Uniform:
    """Equally spaced in the timestep."""

    def place(self, function: str, scheduler: Any, steps: int, tokens: int | None, t: float, placement: str) -> Placed:
        """See :meth:`Own.place`."""
        levels = levels_of(function, scheduler)
        first, last = _ends(levels, t)
        return _placed(function, levels, steps, t, lambda i: first + i / steps * (last - first))


@dataclass(frozen=True)
class Rho:
    """Equally spaced in the rho-th root of s: ``s_i = (s_0^(1/rho) + i/N (s_N^(1/rho) - s_0^(1/rho)))^rho``.

    Karras et al. (2022, equation 5) place noise levels so. Where s_N is above ``LARGEST_RATIO``, or infinite (flows,
    zero terminal SNR), the grid is that up to this ratio, with its last level moved to the end.

    Attributes:
        rho: The root; the higher, the more levels are nearly clean.

    Raises:
        TypeError: If rho is no number.
        ValueError: If it is out of range.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", check_number("Rho", "rho", self.rho, 1, _MOST_RHO, least=True, most=True))

    def place(self, function: str, scheduler: Any, steps: int, tokens: int | None, t: float, placement: str) -> Placed:
        """See :meth:`Own.place`."""
        levels = levels_of(function, scheduler)
        low, high = (_ratio(levels, timestep) ** (1 / self.rho) for timestep in _ends(levels, t))
        high = min(high, LARGEST_RATIO ** (1 / self.rho))
        return _placed(
            function, levels, steps, t, lambda i: levels.nearest((low + i / steps * (high - low)) ** self.rho)
        )


Grid = Own | Uniform | Rho
GRIDS = (Own, Uniform, Rho)
NAMED_GRIDS: dict[str, Grid] = {"rho": Rho(), "uniform": Uniform(), "own": Own()}  # of command lines and files


def check_grid(function: str, grid: Any) -> Grid:
    """The grid; raise unless it is one."""
    if not isinstance(grid, GRIDS):
        raise TypeError(
            f"{function}: grid must be an Own, Uniform or Rho of latentjac.diffusion, got {type(grid).__name__}"
        )
    return grid


def _ends(levels: Levels, t: float) -> tuple[int | float, int | float]:
    """The first timestep, and the one at a fraction of T."""
    end = t * levels.num_train_timesteps
    return levels.first, min(levels.last, round(end) if isinstance(levels.last, int) else end)


def _ratio(levels: Levels, timestep: int | float) -> float:
    (signal,), (noise,), _ = levels.placed([timestep])
    return noise / signal if signal else math.inf


def _placed(function: str, levels: Levels, steps: int, t: float, place: Callable[[int], int | float]) -> Placed:
    """The levels nearest to where they are wanted, each above the one before, with the ends where they are."""
    first, last = _ends(levels, t)
    room = levels.between(first, last)
    if last <= first:
        raise ValueError(f"{function}: t must lie above the cleanest timestep {first:g}, got {t:g}")
    if steps > room:
        raise ValueError(
            f"{function}: num_inference_steps must be at most the {room:g} timesteps between the cleanest and t = {t:g}"
            f", got {steps}"
        )
    timesteps = [first]
    for i in range(1, steps):
        wanted = place(i)
        if isinstance(last, int):
            wanted = min(max(round(wanted), timesteps[-1] + 1), last - (steps - i))
        timesteps.append(wanted)
    return levels.placed([*timesteps, last])
