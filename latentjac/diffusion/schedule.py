"""Noise levels from a clean image to noise, the solver that goes from one to the next, and its first-order step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from latentjac.arguments import (
    check_choice,
    check_int,
    check_number,
    check_sequence,
    check_tensor,
    is_int,
    is_number,
    shown,
)
from latentjac.diffusion import ode_solvers
from latentjac.diffusion.grids import Grid, Own, check_grid
from latentjac.diffusion.ode_solvers import DDIM, Solver, check_solver
from latentjac.models.configs import MOST_TIMESTEPS, MOST_TOKENS
from latentjac.models.placing import PLACEMENTS
from latentjac.models.schedulers import levels_of
from latentjac.public import public

# A network may predict anything finite, which its samples then show.
_LARGEST = torch.finfo(torch.float64).max
MOST_NOISE = 1e6  # of variance exploding schedules: far beyond all published ones
_FIELDS = ("signals", "noises", "timesteps", "num_train_timesteps", "num_inference_steps")
_OWN, _DDIM = Own(), DDIM()
_LATER = ("until", "solver")  # files of before do not have these


@dataclass(frozen=True, repr=False)
class Schedule:
    """Noise levels from clean (level 0) to the noisiest: at each, ``x = signal x0 + noise eps``.

    Variance preserving levels have ``signal^2 + noise^2 = 1``, those of flow matching ``signal + noise = 1``, variance
    exploding ones ``signal = 1``. Both directions, from an image to noise and back, walk the same levels. diffusers'
    own pair of DDIM schedulers does so only where the number of steps divides T.

    Attributes:
        signals: Factor of the clean sample at each level, in [0, 1], descending.
        noises: Standard deviation of the noise at each level, ascending; 0 at most at level 0.
        timesteps: Of each level on the training schedule, in [0, T], ascending; whole or fractional.
        num_train_timesteps: T.
        num_inference_steps: How many steps were asked for; by default as many as there are levels above the clean one.
        until: Fraction of T where the levels were asked to end; 1 for all of them.
        solver: How samples go from level to level.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If values are out of range or order, or there are not as many of one kind as of the others.
    """

    signals: tuple[float, ...]
    noises: tuple[float, ...]
    timesteps: tuple[int | float, ...]
    num_train_timesteps: int = 1000
    num_inference_steps: int = None  # type: ignore[assignment]
    until: float = 1.0
    solver: Solver = _DDIM

    def __post_init__(self) -> None:
        name = "Schedule"
        total = check_int(name, "num_train_timesteps", self.num_train_timesteps, 1, MOST_TIMESTEPS)
        timesteps = _ascending("timesteps", _numbers("timesteps", self.timesteps, total, "num_train_timesteps"))
        noises = _ascending("noises", _numbers("noises", self.noises, MOST_NOISE))
        signals = _numbers("signals", self.signals, 1)
        _ascending("signals", signals[::-1], "descending")
        if not len(signals) == len(noises) == len(timesteps) >= 2:
            raise ValueError(
                f"{name}: signals, noises and timesteps must hold 2 or more numbers each, as many of one as of the "
                f"others, got {len(signals)}, {len(noises)} and {len(timesteps)}"
            )
        if noises[1] == 0:
            raise ValueError(f"{name}: noises must be above 0 at every level but the clean one, got 0 at level 1")
        if signals[-2] == 0:
            raise ValueError(f"{name}: signals must be above 0 at every level but the noisiest, got 0 at another")
        steps = self.num_inference_steps
        steps = check_int(name, "num_inference_steps", steps, 1, MOST_TIMESTEPS, optional=True)
        values = (
            tuple(map(float, signals)), tuple(map(float, noises)), timesteps, total, steps or len(timesteps) - 1
        )  # fmt: skip
        for field_name, value in zip(_FIELDS, values, strict=True):
            object.__setattr__(self, field_name, value)
        object.__setattr__(self, "until", check_number(name, "until", self.until, 0, 1, least=True, most=True))
        check_solver(name, self.solver)

    @classmethod
    @public
    def from_scheduler(
        cls,
        scheduler: Any,
        num_inference_steps: int,
        image_seq_len: int | None = None,
        placement: str = "own",
        *,
        grid: Grid = _OWN,
        solver: Solver = _DDIM,
        t: float = 1.0,
    ) -> Schedule:
        """The levels that a scheduler of diffusers places, or those of another grid for the same network.

        With ``alphas_cumprod`` at whole timesteps; those of PNDM, LCM and others whose own are no way to go up and down
        as ``DDIMScheduler`` places them. Clipping and thresholding of predictions are left out: they would make the
        steps impossible to invert.

        Args:
            scheduler: Of diffusers.
            num_inference_steps: How many steps, at most T.
            image_seq_len: Tokens of a sample, where the scheduler shifts its levels by them
                (``use_dynamic_shifting``); a model knows its own. By default the scheduler's ``base_image_seq_len``.
            placement: Where flows have their levels before a shift, as pipelines differ in it (``model.placing``):
                ``"own"``, down to the least noise of the scheduler; ``"even"``, from 1 to 1/n; ``"whole"``, at whole
                timesteps from T to 1; ``"fitted"``, evenly, with the shift of Flux 2. With dynamic shifting ``"own"``
                is ``"even"``, and ``"scheduler"`` is the scheduler's own as without.
            grid: Where the levels lie: the scheduler's :class:`Own`, :class:`Uniform` or :class:`Rho`.
            solver: How samples go from level to level: :class:`DDIM`, :class:`Implicit` or :class:`Multistep`.
            t: Fraction of T where the levels end.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there are no such levels.

        Example:
            ``Schedule.from_scheduler(model.scheduler, 12, grid=Rho(), solver=Multistep(), t=0.7)``
        """
        name = "from_scheduler"
        total = levels_of(name, scheduler).num_train_timesteps
        steps = check_steps(name, num_inference_steps, 1, total)
        tokens = check_int(name, "image_seq_len", image_seq_len, 1, MOST_TOKENS, optional=True)
        placement = check_choice(name, "placement", placement, PLACEMENTS)
        check_solver(name, solver)
        t = check_number(name, "t", t, 0, 1, most=True)
        signals, noises, timesteps = check_grid(name, grid).place(name, scheduler, steps, tokens, t, placement)
        return cls(tuple(signals), tuple(noises), tuple(timesteps), total, steps, t, solver)

    @property
    def top(self) -> int:
        """The noisiest level."""
        return len(self.timesteps) - 1

    def same(self, level: int, other: int) -> bool:
        """Whether samples at two levels are the same ones."""
        level, other = check_int("same", "level", level, 0, self.top), check_int("same", "other", other, 0, self.top)
        return self.signals[level] == self.signals[other] and self.noises[level] == self.noises[other]

    def level(self, *, t: float | None = None, timestep: int | float | None = None) -> int:
        """Nearest noisy level to a fraction of T or to a timestep.

        Args:
            t: Fraction of T in [0, 1].
            timestep: Timestep of the training schedule; fractional only where the levels have such timesteps.

        Raises:
            TypeError: If not exactly one of the two is given, or it is not a number.
            ValueError: If it is out of range.
        """
        return self.nearest("level", t, timestep)

    def nearest(self, function: str, t: Any, timestep: Any) -> int:
        """As :meth:`level`, for a function of another name."""
        if (t is None) == (timestep is None):
            got = "none of them" if t is None else "both"
            raise TypeError(f"{function}: t (fraction of T) or timestep must be given, exactly one of them, got {got}")
        if t is not None:
            target = check_number(function, "t", t, 0, 1, least=True, most=True) * self.num_train_timesteps
        elif all(map(is_int, self.timesteps)):
            target = check_int(function, "timestep", timestep, 0, self.num_train_timesteps - 1)
        else:
            target = check_number(function, "timestep", timestep, 0, self.num_train_timesteps, least=True)
        if self.until < 1 and target > max(self.until * self.num_train_timesteps, self.timesteps[-1]):
            given, most, got = (
                ("t", self.until, t) if t is not None else ("timestep", self.timesteps[-1], timestep)
            )  # fmt: skip
            raise ValueError(
                f"{function}: {given} must be at most {most:g}, where the levels end (invert(..., t={self.until:g})), "
                f"got {shown(got)}"
            )
        return min(range(1, self.top + 1), key=lambda i: abs(self.timesteps[i] - target))

    def step(
        self,
        x: torch.Tensor,
        eps: torch.Tensor,
        source: int,
        target: int,
        noise: torch.Tensor | None = None,
        *,
        x0: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """First-order step between two levels: deterministic, in either direction, or the stochastic one down.

        ``x' = signal' x0 + noise' eps``: DDIM for variance preserving levels (Song et al. 2021, equation 12 with
        eta = 0), Euler's step of the probability flow for any. With noise, the ancestral step (eta = 1).

        Args:
            x: Samples at the source level, ``[B, ...]``.
            eps: Predicted noise.
            source: Level of x.
            target: Level to go to.
            noise: Standard normal values, to go down stochastically.
            x0: Predicted clean sample; by default the one that x and eps say. Needed where there is no signal.

        Returns:
            Samples at the target level.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there is no such level, tensors differ in shape or are not finite, or noise comes with a step
                that does not lead down.
        """
        source, target = (
            check_int("step", name, level, 0, self.top) for name, level in (("source", source), ("target", target))
        )
        x = check_tensor("step", "x", x, _LARGEST)
        eps = _like("eps", eps, x)
        noise = None if noise is None else _like("noise", noise, x)
        if noise is not None and target >= source:
            raise ValueError(f"step: target must lie below source = {source} with noise, got {target}")
        if x0 is None and self.signals[source] == 0:
            raise ValueError(f"step: x0 must be given where source = {source} has no signal, got None")
        x0 = (x - self.noises[source] * eps) / self.signals[source] if x0 is None else _like("x0", x0, x)
        signal, deviation = self.signals[target], self.noises[target]
        if noise is None:
            return signal * x0 + deviation * eps
        variance = self._fresh_variance(source, target)
        return signal * x0 + max(0.0, deviation**2 - variance) ** 0.5 * eps + variance**0.5 * noise

    def _fresh_variance(self, source: int, target: int) -> float:
        """Variance of the noise at the target that is independent of the sample at the source, given the clean one."""
        kept = (self.signals[source] / self.signals[target] * self.noises[target]) ** 2
        return (self.noises[target] / self.noises[source]) ** 2 * (self.noises[source] ** 2 - kept)

    @public
    def to_dict(self) -> dict[str, Any]:
        """The schedule as plain values, for files."""
        values = {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in _FIELDS}
        return {**values, "until": self.until, "solver": ode_solvers.to_dict(self.solver)}

    @classmethod
    @public
    def from_dict(cls, values: Mapping[str, Any]) -> Schedule:
        """The schedule of what :meth:`to_dict` gave; without until and solver, of before they were there, too.

        Raises:
            TypeError: If values have other names or types.
            ValueError: If they are those of no schedule.
        """
        known = {*_FIELDS, *_LATER}
        if not isinstance(values, Mapping) or set(values) not in (known, set(_FIELDS)):
            got = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise TypeError(f"from_dict: values must be a mapping of {sorted(known)}, got {shown(got)}")
        solver = ode_solvers.from_dict(values["solver"]) if "solver" in values else DDIM()
        return cls(**{**values, "solver": solver})

    def __repr__(self) -> str:
        first, last = self.timesteps[1], self.timesteps[-1]
        return f"Schedule({self.top} levels, timesteps {first:g} to {last:g} of {self.num_train_timesteps})"


def check_steps(function: str, num_inference_steps: Any, least: int, total: int) -> int:
    """A number of steps between two."""
    steps: int = check_int(function, "num_inference_steps", num_inference_steps)
    if not least <= steps <= total:
        raise ValueError(
            f"{function}: num_inference_steps must be in [{least}, T] = [{least}, {total}], got {shown(steps)}"
        )
    return steps


def _numbers(argument: str, values: Any, high: float, limit: str | None = None) -> tuple[Any, ...]:
    """Numbers from 0, ints among them as such; messages name what limits them."""
    found = []
    for value in check_sequence("Schedule", argument, values, "numbers"):
        if not is_number(value) or not 0 <= value <= high:
            error = ValueError if is_number(value) else TypeError
            span = f"[0, {high:g}]" if limit is None else f"[0, {limit}] = [0, {high:g}]"
            raise error(f"Schedule: {argument} must be numbers in {span}, got {shown(value)}")
        found.append(int(value) if is_int(value) else float(value))
    return tuple(found)


def _ascending(argument: str, values: tuple[Any, ...], order: str = "ascending") -> tuple[Any, ...]:
    if any(a > b for a, b in pairwise(values)):
        raise ValueError(f"Schedule: {argument} must be {order}, got others")
    return values


def _like(argument: str, value: Any, x: torch.Tensor) -> torch.Tensor:
    value = check_tensor("step", argument, value, _LARGEST)
    if value.shape != x.shape or value.dtype != x.dtype or value.device != x.device:
        expected, got = (f"{list(t.shape)} {t.dtype} on {t.device}" for t in (x, value))
        raise ValueError(f"step: {argument} must be like x, {expected}, got {got}")
    return value
