"""Levels of noise, as a model and a schedule need them: what they are at each timestep, and how they reach the network.

At timestep t in [0, T] a noisy sample is ``x = signal x0 + noise eps``. A few kinds of levels cover the schedulers of
diffusers; :mod:`latentjac.models.schedulers` makes them of one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from latentjac.models.predictions import Prediction, predicted

if TYPE_CHECKING:
    from latentjac.models.adapters.family import Call
    from latentjac.models.conditioning import Conditioning

Tensor = torch.Tensor


class Grid(NamedTuple):
    """Levels from clean to noisy, as those of :class:`latentjac.diffusion.Schedule`."""

    signals: list[float]
    noises: list[float]
    timesteps: list[int | float]


@dataclass(frozen=True, eq=False)
class Levels(ABC):
    """Signal and noise at each timestep, whole or fractional.

    The methods that take tensors read no values of them: functions of them can be traced and differentiated.

    Attributes:
        prediction_type: What the network predicts.
        num_train_timesteps: T.
        closed: Whether T itself is a timestep.
    """

    prediction_type: str
    num_train_timesteps: int
    closed: ClassVar[bool] = True

    @abstractmethod
    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise of samples ``[B, ...]`` at timesteps ``[]`` or ``[B]``, broadcast to the samples."""

    @abstractmethod
    def grid(self, scheduler: Any) -> Grid:
        """The levels that a scheduler of diffusers has placed (``set_timesteps``)."""

    @abstractmethod
    def nearest(self, ratio: float) -> int | float:
        """The timestep between the first and the last whose noise is nearest to ``ratio`` times its signal."""

    @property
    def first(self) -> int | float:
        """The cleanest timestep that a network was trained for."""
        return 0.0

    @property
    def last(self) -> int | float:
        """The noisiest one."""
        return float(self.num_train_timesteps)

    def between(self, first: int | float, last: int | float) -> float:
        """How many timesteps lie from one up to another, the first not counted."""
        return math.inf

    def placed(self, timesteps: Sequence[int | float]) -> Grid:
        """The levels of timesteps."""
        t = torch.tensor(timesteps, dtype=torch.float64, device="cpu")
        signals, noises = self.at(t, torch.zeros_like(t))
        return Grid(signals.tolist(), noises.tolist(), list(timesteps))

    def predicted(self, out: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """Clean sample and noise from what the network returns for samples at timesteps."""
        return predicted(self.prediction_type, out, x, *self.at(t, x))

    def used(self, out: Tensor, x: Tensor) -> Tensor:
        """What of a network's output for samples is its prediction; a learned variance comes behind it."""
        return out[:, : x.shape[1]]

    def called(self, call: Call) -> Call:
        """A call of the network that takes samples and timesteps as they are here; by default the one given."""
        return call

    def spread(self, noise: float) -> float:
        """Standard deviation of samples at the noisiest level; the data's is about 1."""
        return 1.0

    def holds(self, timestep: float) -> bool:
        """Whether there is such a timestep."""
        return 0 <= timestep < self.num_train_timesteps or (self.closed and timestep == self.num_train_timesteps)

    @property
    def span(self) -> str:
        """All timesteps, for messages."""
        end = "]" if self.closed else ")"
        return f"[0, num_train_timesteps{end} = [0, {self.num_train_timesteps}{end}"


@dataclass(frozen=True, eq=False)
class Table(Levels):
    """Variance preserving levels at whole timesteps; at a fractional one those of the whole one below.

    Attributes:
        powers: Signal powers ``alphas_cumprod``, ``[T]``.
    """

    powers: Tensor
    closed: ClassVar[bool] = False

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Levels`."""
        powers = self.powers.to(x.device, x.dtype)
        # Not powers[t]: indexing by a scalar tensor reads its value, which no trace can.
        power = powers.index_select(0, t.reshape(-1).long()).reshape(-1, *[1] * (x.ndim - 1))
        return power.sqrt(), (1 - power).sqrt()

    def exact(self) -> tuple[Tensor, Tensor]:
        """Signal and noise of each timestep, ``[T]`` each, float64 on the CPU."""
        powers = self.powers.double().cpu()
        return powers.sqrt(), (1 - powers).sqrt()

    def nearest(self, ratio: float) -> int:
        """See :class:`Levels`; nearest by its logarithm."""
        signals, noises = self.exact()
        return int(((noises / signals).log() - math.log(ratio)).abs().argmin())

    @property
    def first(self) -> int:
        """See :class:`Levels`."""
        return 0

    @property
    def last(self) -> int:
        """See :class:`Levels`."""
        return self.num_train_timesteps - 1

    def between(self, first: int | float, last: int | float) -> float:
        """See :class:`Levels`."""
        return last - first

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`."""
        last = self.num_train_timesteps - 1
        # diffusers' grids can leave the training schedule: a steps_offset pushes its last timestep past the end,
        # and trailing spacing rounds to an additional timestep of -1 for some numbers of steps (61, 103, ...).
        # Those between whole timesteps are sampled at the nearest: the network was trained on no others.
        # Steps of second order visit every timestep twice, or one more between two.
        placed = scheduler.timesteps[:: getattr(scheduler, "order", 1)].tolist()
        noisy = sorted({min(round(t), last) for t in placed if t >= 0})
        return _above_clean(scheduler, self.placed(noisy))


@dataclass(frozen=True, eq=False)
class Interpolated(Table):
    """The same of schedulers that place levels between whole timesteps too, where the power is between theirs.

    Attributes:
        told: What the network gets of a timestep: ``"itself"``, or the ``"nearest"`` whole one or that ``"below"``.
        scaled: Whether samples begin as noise of the deviation that it has at the top, which is a little below 1.
    """

    told: str = "itself"
    scaled: bool = False

    def spread(self, noise: float) -> float:
        """See :class:`Levels`."""
        return noise if self.scaled else 1.0

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Levels`."""
        if not t.is_floating_point():
            return super().at(t, x)
        powers, place = self.powers.to(x.device, x.dtype), t.to(x.device).reshape(-1)
        below = place.long()
        low, high = powers.index_select(0, below), powers.index_select(0, (below + 1).clamp(max=self.last))
        power = (low + (place - below).to(x.dtype) * (high - low)).reshape(-1, *[1] * (x.ndim - 1))
        return power.sqrt(), (1 - power).sqrt()

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`."""
        places = sorted({min(max(place, 0.0), float(self.last)) for place in self._places(scheduler)})
        if all(place.is_integer() for place in places):
            return super().grid(scheduler)
        return _above_clean(scheduler, self.placed(places))

    def _places(self, scheduler: Any) -> list[float]:
        """Timesteps that a scheduler has placed; of those that round them the ones that its sigmas are of."""
        order = getattr(scheduler, "order", 1)
        if self.told == "itself":
            return [float(t) for t in scheduler.timesteps[::order]]
        sigmas = scheduler.sigmas[: len(scheduler.timesteps) : order].double()
        powers = self.powers.double().cpu().numpy()[::-1]
        return [float(np.interp(1 / (1 + float(sigma) ** 2), powers, range(len(powers))[::-1])) for sigma in sigmas]

    def called(self, call: Call) -> Call:
        """See :class:`Levels`."""
        return call if self.told == "itself" else _Whole(call, torch.round if self.told == "nearest" else _below)


@dataclass(frozen=True, eq=False)
class Flow(Levels):
    """Levels of flow matching: noise t / T, and the rest signal.

    Attributes:
        whole: Whether the network gets the whole timestep below.
    """

    whole: bool = False

    def called(self, call: Call) -> Call:
        """See :class:`Levels`."""
        return _Whole(call, torch.floor) if self.whole else call

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Levels`."""
        noise = fraction_of(self, t, x)
        return (1 - noise).to(x.dtype), noise.to(x.dtype)

    def nearest(self, ratio: float) -> float:
        """See :class:`Levels`."""
        return max(self.first, ratio / (1 + ratio) * self.num_train_timesteps)

    @property
    def first(self) -> float:
        """See :class:`Levels`; networks were trained for noise above 0."""
        return 1.0

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`."""
        *noisy, clean = scheduler.sigmas.double().tolist()
        noises = [clean, *(min(noise, 1.0) for noise in noisy[:: getattr(scheduler, "order", 1)][::-1])]
        timesteps = [noise * self.num_train_timesteps for noise in noises[1:]]
        return Grid([1 - noise for noise in noises], noises, [0.0, *timesteps])


@dataclass(frozen=True, eq=False)
class Angles(Flow):
    """Those of a scheduler with angles, of signal cos and noise sin (Lu & Song 2025), for a network of a flow.

    Sana Sprint scales samples to those of a flow, whose noise is sin / (cos + sin), and tells it that fraction.
    """

    def called(self, call: Call) -> Call:
        """See :class:`Levels`."""
        return _Fraction(call, self.num_train_timesteps)

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`."""
        angles = scheduler.timesteps.double().flip(0)
        noises = (angles.sin() / (angles.cos() + angles.sin())).clamp(0, 1).tolist()
        return Grid([1 - noise for noise in noises], noises, [noise * self.num_train_timesteps for noise in noises])


def _below(t: Tensor) -> Tensor:
    """The whole timestep below, or one that is missed by what powers and logarithms between two differ."""
    return (t + 1e-3).floor()


@dataclass(frozen=True)
class _Whole:
    """A call with a whole timestep: the nearest one, or that below."""

    call: Call
    rounded: Callable[[Tensor], Tensor]

    def __call__(self, network: torch.nn.Module, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return self.call(network, x, self.rounded(t), conditioning)


@dataclass(frozen=True)
class _Fraction:
    """A call with a fraction of T as its time."""

    call: Call
    total: int

    def __call__(self, network: torch.nn.Module, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return self.call(network, x, t / self.total, conditioning)


def fraction_of(levels: Levels, t: Tensor, x: Tensor) -> Tensor:
    """Timesteps as fractions of T, broadcast to samples, in float32 at least."""
    # Not by torch.promote_types, which an export takes for an operator that reads numbers off tensors.
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return t.to(x.device, wide).reshape(-1, *[1] * (x.ndim - 1)) / levels.num_train_timesteps


def _above_clean(scheduler: Any, noisy: Grid) -> Grid:
    """These levels above the clean one of a scheduler, which can be as noisy as the first of them."""
    power = _clean_power(scheduler)
    signal, noise = math.sqrt(power), math.sqrt(1 - power)
    if math.isclose(noise, noisy.noises[0], rel_tol=1e-5):
        signal, noise = noisy.signals[0], noisy.noises[0]
    first = type(noisy.timesteps[0])(0)
    return Grid([signal, *noisy.signals], [noise, *noisy.noises], [first, *noisy.timesteps])


def _clean_power(scheduler: Any) -> float:
    """Signal power below the first timestep that a scheduler with powers has placed."""
    for name in ("final_alpha_cumprod", "initial_alpha_cumprod"):
        if hasattr(scheduler, name):
            return float(getattr(scheduler, name))
    sigmas = getattr(scheduler, "sigmas", None)
    return 1.0 if sigmas is None else 1 / (1 + float(sigmas[-1]) ** 2)
