"""How a photo is inverted, as the flags of the command line say it."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentjac.cli.refusals import Refusal
from latentjac.diffusion import DDIM, Own
from latentjac.diffusion.grids import NAMED_GRIDS, Grid
from latentjac.diffusion.ode_solvers import NAMED_SOLVERS, Solver


@dataclass(frozen=True)
class Inversion:
    """How a photo is inverted.

    Attributes:
        steps: Of the grid.
        t: Fraction of T where it ends.
        grid: Where the levels lie.
        solver: How samples go from level to level.
    """

    steps: int
    t: float = 1.0
    grid: Grid = field(default_factory=Own)
    solver: Solver = field(default_factory=DDIM)


def inversion_of(steps: int, t: float, grid: str, solver: str, refinement: int | None) -> Inversion:
    """The inversion that flags ask for; with t = 0, the least noisy level of a grid, that of the whole grid.

    Raises:
        Refusal: If a flag does not go with another.
    """
    built = NAMED_SOLVERS[solver]
    if refinement is not None:
        if not isinstance(built, DDIM):
            raise Refusal(f"--refinement must be left out with --solver {solver}, got {refinement}")
        built = DDIM(refinement)
    return Inversion(steps, t or 1.0, NAMED_GRIDS[grid], built)
