"""Solvers of the probability flow, up and down the levels: small objects that hold exactly their own options.

With D the predicted clean sample and s the ratio of noise to signal, samples obey ``d(x / noise) = D d(1 / s)``. A
step of first order takes D as constant between two levels, one of second order as linear in log s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from latentjac.arguments import check_int, check_number, shown
from latentjac.models.predictions import Prediction

if TYPE_CHECKING:
    from latentjac.diffusion.schedule import Schedule

Tensor = torch.Tensor
# Clean sample and noise that are predicted for samples at a level.
Predictor = Callable[[Tensor, int], Prediction]
# Samples one level lower, from those at a level and what is predicted for them.
Step = Callable[[Tensor, Prediction, int], Tensor]

MOST_REFINEMENTS = 1000  # the iteration has long converged, or never will


def _set(solver: object, option: str, plain: object) -> None:
    """Give an option its plain form, while a frozen object is made."""
    object.__setattr__(solver, option, plain)


class Up(Protocol):
    """Steps up, in their order.

    Attributes:
        solved: Whether the equations of all steps so far were solved, one a sample; None if there are none.
    """

    solved: Tensor | None

    def __call__(self, x: Tensor, level: int) -> Tensor:
        """Samples at a level, from those one level lower."""
        ...


@dataclass(frozen=True)
class DDIM:
    """Steps of first order (Song et al. 2021): DDIM, or Euler's for flows.

    The step from level i - 1 up to i uses the noise predicted at level i, as the one down does. That prediction needs
    the sample that is looked for: the first guess takes the sample of level i - 1, and each refinement repeats the step
    with the sample just found (a fixed-point iteration).

    Attributes:
        refinement: Iterations a step up, at most ``MOST_REFINEMENTS``; each costs one more network evaluation.

    Raises:
        TypeError: If refinement is no int.
        ValueError: If it is out of range.
    """

    refinement: int = 1

    def __post_init__(self) -> None:
        _set(self, "refinement", check_int("DDIM", "refinement", self.refinement, 0, MOST_REFINEMENTS))

    def down(self, schedule: Schedule) -> Step:
        """Steps down the levels of a schedule."""
        return lambda x, found, level: schedule.step(x, found.eps, level, level - 1, x0=found.x0)

    def up(self, schedule: Schedule, predict: Predictor) -> Up:
        """Steps up the levels of a schedule."""
        return _Refined(schedule, predict, self.refinement)


@dataclass(frozen=True)
class Implicit:
    """Steps of first order, of which those up are solved until they undo those down.

    The equation is that of :class:`DDIM`. The first guess takes D extrapolated from the two levels before, linear in
    log s; then the fixed-point iteration goes on with the mixing of Anderson (1965) over two steps.

    Attributes:
        tol: Root mean square of what a repeated step still changes, over the noise of the level, where the iteration
            ends.
        most: Evaluations a step, where it gives up.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    tol: float = 1e-2
    most: int = 20

    def __post_init__(self) -> None:
        _set(self, "tol", check_number("Implicit", "tol", self.tol, 0, 1))
        _set(self, "most", check_int("Implicit", "most", self.most, 1, MOST_REFINEMENTS))

    def down(self, schedule: Schedule) -> Step:
        """Steps down the levels of a schedule."""
        return DDIM().down(schedule)

    def up(self, schedule: Schedule, predict: Predictor) -> Up:
        """Steps up the levels of a schedule."""
        return _Solved(schedule, predict, self)


@dataclass(frozen=True)
class Multistep:
    """Steps of second order, explicit in both directions: DPM-Solver++ 2M (Lu et al. 2022), by D of two levels.

    ``D + (D - D') |log(s_n / s)| / (2 |log(s / s')|)`` stands for D in the step of first order, with D' and s' those of
    the level before. The first step, and those from or to levels without noise or signal, are of first order. A step up
    costs one evaluation, and no equation is solved.
    """

    def down(self, schedule: Schedule) -> Step:
        """Steps down the levels of a schedule."""
        return _Extrapolated(schedule)

    def up(self, schedule: Schedule, predict: Predictor) -> Up:
        """Steps up the levels of a schedule."""
        return _Explicit(schedule, predict)


Solver = DDIM | Implicit | Multistep
SOLVERS = (DDIM, Implicit, Multistep)
# Of command lines and files.
NAMED_SOLVERS: dict[str, Solver] = {"multistep": Multistep(), "ddim": DDIM(), "implicit": Implicit()}


def check_solver(function: str, solver: Any) -> Solver:
    """The solver; raise unless it is one."""
    if not isinstance(solver, SOLVERS):
        kind = type(solver).__name__
        more = ", whose steps cannot be undone: it is for sample alone" if kind == "Diffusers" else ""
        raise TypeError(
            f"{function}: solver must be a DDIM, Implicit or Multistep of latentjac.diffusion, got {kind}{more}"
        )
    return solver


def to_dict(solver: Solver) -> dict[str, Any]:
    """A solver as plain values, for files."""
    return {"name": type(solver).__name__, **asdict(solver)}


def from_dict(values: Any) -> Solver:
    """The solver of what :func:`to_dict` gave.

    Raises:
        TypeError: If values have other names or types.
        ValueError: If they are those of no solver.
    """
    kinds = {kind.__name__: kind for kind in SOLVERS}
    name = values.get("name") if isinstance(values, Mapping) else None
    if not isinstance(name, str) or name not in kinds:
        raise TypeError(f"from_dict: solver must be a mapping with a name of {sorted(kinds)}, got {shown(values)}")
    kind = kinds[name]
    if set(values) != {"name", *asdict(kind())}:
        raise TypeError(f"from_dict: solver must hold {['name', *asdict(kind())]}, got {shown(sorted(values))}")
    return kind(**{option: value for option, value in values.items() if option != "name"})


class _Extrapolated:
    """Steps of second order down, or up from samples at which D is known; it remembers D of the level before."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._before: tuple[Tensor, int] | None = None

    def __call__(self, x: Tensor, found: Prediction, level: int) -> Tensor:
        return self.step(x, found, level, level - 1)

    def step(self, x: Tensor, found: Prediction, source: int, target: int) -> Tensor:
        """Samples at the target level."""
        schedule = self._schedule
        moved = schedule.step(x, found.eps, source, target, x0=found.x0)
        if self._before is not None:
            x0, level = self._before
            part = 0.5 * extrapolation(schedule, level, source, target)
            if part:
                # How much of D a step of first order takes, beside the part that the noise already brings.
                share = schedule.signals[target] - schedule.noises[target] * _inverse_ratio(schedule, source)
                moved = moved + share * part * (found.x0 - x0)
        self._before = found.x0, source
        return moved


class _Explicit:
    """Steps of second order up, with D of the level that each begins at."""

    solved: Tensor | None = None

    def __init__(self, schedule: Schedule, predict: Predictor) -> None:
        self._schedule, self._predict = schedule, predict
        self._step = _Extrapolated(schedule)

    def __call__(self, x: Tensor, level: int) -> Tensor:
        if self._schedule.noises[level - 1] == 0:  # without noise none can be seen; as DDIM guesses it
            return _again(self._schedule, x, self._predict(x, level), level)
        return self._step.step(x, self._predict(x, level - 1), level - 1, level)


class _Refined:
    """Steps of first order up, by a fixed-point iteration that begins with the samples below."""

    solved: Tensor | None = None

    def __init__(self, schedule: Schedule, predict: Predictor, refinement: int) -> None:
        self._schedule, self._predict, self._refinement = schedule, predict, refinement

    def __call__(self, x: Tensor, level: int) -> Tensor:
        above = x
        for _ in range(1 + self._refinement):
            above = _again(self._schedule, x, self._predict(above, level), level)
        return above


class _Solved:
    """Steps of first order up, solved to a tolerance; samples that have arrived stay where they are."""

    def __init__(self, schedule: Schedule, predict: Predictor, options: Implicit) -> None:
        self._schedule, self._predict, self._options = schedule, predict, options
        self._known: list[tuple[Tensor, int]] = []  # D of the last two levels
        self.solved: Tensor | None = None

    def __call__(self, x: Tensor, level: int) -> Tensor:
        schedule = self._schedule
        if self.solved is None:
            self.solved = torch.ones(len(x), dtype=torch.bool, device=x.device)
        above, mixing = self._guess(x, level), _Anderson(x)
        arrived = torch.zeros_like(self.solved)
        limit = self._options.tol * schedule.noises[level]
        x0 = x
        for _ in range(self._options.most):
            found = self._predict(above, level)
            again = _again(schedule, x, found, level)
            change = (again - above).flatten(1).double().square().mean(1).sqrt()
            moving = ~arrived
            x0 = torch.where(_like(moving, x), found.x0, x0)
            arrived = arrived | (change <= limit)
            above = torch.where(_like(moving, x), torch.where(_like(arrived, x), again, mixing(above, again)), above)
            if bool(arrived.all()):
                break
        self.solved = self.solved & arrived
        self._known = [*self._known[-1:], (x0, level)]
        return above

    def _guess(self, x: Tensor, level: int) -> Tensor:
        """Samples at a level by D extrapolated to it; those below where there is none, or no noise to scale."""
        schedule = self._schedule
        if not self._known or schedule.noises[level - 1] == 0:
            return x
        x0, last = self._known[-1]
        if len(self._known) == 2:
            before, first = self._known[0]
            x0 = x0 + extrapolation(schedule, first, last, level) * (x0 - before)
        grown = schedule.noises[level] / schedule.noises[level - 1]
        return grown * x + (schedule.signals[level] - schedule.signals[level - 1] * grown) * x0


class _Anderson:
    """Mixing of the last three iterates of each sample, so that what they still change is least."""

    def __init__(self, like: Tensor) -> None:
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._like = like

    def __call__(self, x: Tensor, moved: Tensor) -> Tensor:
        """The next iterate, from the last and where the iteration moves it."""
        self._rows = [*self._rows[-2:], (moved.flatten(1).double(), (moved - x).flatten(1).double())]
        if len(self._rows) == 1:
            return moved
        (image, change), *before = self._rows[::-1]
        images = torch.stack([image - other for other, _ in before], 2)
        changes = torch.stack([change - other for _, other in before], 2)
        gram = changes.mT @ changes
        # In units of each difference, as they become shorter by orders.
        scale = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
        inverse = torch.linalg.pinv(scale[:, :, None] * gram * scale[:, None], hermitian=True, rtol=1e-8)
        shares = scale[:, :, None] * (inverse @ (scale[:, :, None] * (changes.mT @ change[:, :, None])))
        return (image - (images @ shares)[:, :, 0]).to(self._like.dtype).view_as(self._like)


def _again(schedule: Schedule, below: Tensor, found: Prediction, level: int) -> Tensor:
    """A step of first order up to a level, by what is predicted for a guess of the samples there.

    At a level without signal the prediction is the sample itself, whatever the network gives, and no iteration with it
    moves. There the part of the samples below that the prediction does not explain goes to both x0 and eps, so that
    Euler's step back would lead from the guess to them.
    """
    eps = found.eps
    if schedule.signals[level] == 0:
        signal, noise = schedule.signals[level - 1], schedule.noises[level - 1]
        eps = eps + (below - (signal * found.x0 + noise * eps)) / schedule.noises[level]
    return schedule.step(below, eps, level - 1, level)


def extrapolation(schedule: Schedule, before: int, source: int, target: int) -> float:
    """Log steps from source to target over those from before to source, of s; 0 where one of them is infinite."""
    here = _log_ratio(schedule, source)
    known, wanted = here - _log_ratio(schedule, before), _log_ratio(schedule, target) - here
    return wanted / known if math.isfinite(wanted) and math.isfinite(known) and known else 0.0


def _log_ratio(schedule: Schedule, level: int) -> float:
    signal, noise = schedule.signals[level], schedule.noises[level]
    return math.inf if signal == 0 else -math.inf if noise == 0 else math.log(noise / signal)


def _inverse_ratio(schedule: Schedule, level: int) -> float:
    return schedule.signals[level] / schedule.noises[level]


def _like(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.ndim - 1))
