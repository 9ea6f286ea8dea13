"""Levels of samples that keep all their signal and get ever more noise, and what their networks are given.

Variance exploding ones (Song et al. 2021), those with scaled inputs and outputs (Karras et al. 2022, EDM), and those of
consistency models (Song et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from latentjac.models.levels import Grid, Levels, fraction_of
from latentjac.models.predictions import Prediction

if TYPE_CHECKING:
    from latentjac.models.adapters.family import Call
    from latentjac.models.conditioning import Conditioning

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Exploding(Levels):
    """Variance exploding levels (Song et al. 2021): signal 1 at all; the network gets the noise as its time.

    The noise grows from ``smallest`` at timestep 0 to ``largest`` at T, by equal factors or, with ``rho``, by equal
    steps of its root (Karras et al. 2022, equation 5).

    Attributes:
        smallest: Standard deviation of the noise at timestep 0.
        largest: The same at T.
        rho: Which root; None for equal factors.
    """

    smallest: float
    largest: float
    rho: float | None = None

    def at(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Levels`."""
        noise = self._noise(fraction_of(self, t, x)).to(x.dtype)
        return torch.ones_like(noise), noise

    def _noise(self, fraction: Tensor) -> Tensor:
        if self.rho is None:
            return (math.log(self.smallest) + fraction * math.log(self.largest / self.smallest)).exp()
        low, high = self.smallest ** (1 / self.rho), self.largest ** (1 / self.rho)
        return (low + fraction * (high - low)) ** self.rho

    def _timestep(self, noise: float) -> float:
        """Where there is such noise."""
        if self.rho is None:
            fraction = math.log(noise / self.smallest) / math.log(self.largest / self.smallest)
        else:
            low, high = self.smallest ** (1 / self.rho), self.largest ** (1 / self.rho)
            fraction = (noise ** (1 / self.rho) - low) / (high - low)
        return min(max(fraction, 0.0), 1.0) * self.num_train_timesteps

    def nearest(self, ratio: float) -> float:
        """See :class:`Levels`."""
        return self._timestep(ratio)

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`."""
        noises = scheduler.sigmas.double().tolist()
        clean = noises.pop() if len(noises) > len(scheduler.timesteps) else 0.0
        noisy = noises[::-1]
        return Grid([1.0] * (len(noisy) + 1), [clean, *noisy], [0.0, *map(self._timestep, noisy)])

    def called(self, call: Call) -> Call:
        """See :class:`Levels`."""
        return _Scaled(self, call)

    def given(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network gets for samples at timesteps."""
        return x, self._noise(fraction_of(self, t, x)).reshape(t.shape).to(x.dtype)

    def spread(self, noise: float) -> float:
        """See :class:`Levels`."""
        return noise


@dataclass(frozen=True, eq=False)
class Preconditioned(Exploding):
    """Those of a network with scaled input and output (Karras et al. 2022, table 1, EDM).

    Attributes:
        data: Standard deviation of the data that the network was trained for.
        sign: Of the part of the clean sample that the network predicts.
    """

    data: float = 0.5
    sign: int = 1

    def predicted(self, out: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """See :class:`Levels`."""
        _, noise = self.at(t, x)
        total = (noise**2 + self.data**2).sqrt()
        x0 = (self.data / total) ** 2 * x + self.sign * self.data * (noise / total) * out
        return Prediction(x0, (x - x0) / noise)

    def given(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Levels`."""
        noise = self._noise(fraction_of(self, t, x))
        scaled = x / (noise**2 + self.data**2).sqrt().to(x.dtype)
        return scaled, self._told(noise).reshape(t.shape).to(x.dtype)

    def _told(self, noise: Tensor) -> Tensor:
        """What the network gets as its time."""
        return noise.log() / 4

    def spread(self, noise: float) -> float:
        """See :class:`Levels`."""
        return math.sqrt(noise**2 + 1)


@dataclass(frozen=True, eq=False)
class Angular(Preconditioned):
    """Those of a network whose time is the angle of noise to signal, from 0 to 1: of Stable Audio."""

    def _told(self, noise: Tensor) -> Tensor:
        return noise.atan() * (2 / math.pi)


@dataclass(frozen=True, eq=False)
class Consistent(Preconditioned):
    """Those of consistency models (Song et al. 2023, equation 5 and appendix C).

    The clean sample is the end of the path of the flow through a sample, not the mean of all clean ones: a step of
    first order down to the clean level is one of the model's own. At the smallest noise it is the sample itself.
    """

    def predicted(self, out: Tensor, x: Tensor, t: Tensor) -> Prediction:
        """See :class:`Levels`."""
        _, noise = self.at(t, x)
        above = noise - self.smallest
        x0 = self.data**2 / (above**2 + self.data**2) * x + above * self.data / (noise**2 + self.data**2).sqrt() * out
        return Prediction(x0, (x - x0) / noise)

    def grid(self, scheduler: Any) -> Grid:
        """See :class:`Levels`; the clean one is without noise, since networks predict the sample there."""
        signals, noises, timesteps = super().grid(scheduler)
        return Grid(signals, [0.0, *noises[1:]], timesteps)

    def _told(self, noise: Tensor) -> Tensor:
        return 250 * noise.log()

    def spread(self, noise: float) -> float:
        """See :class:`Levels`; samples begin as noise alone."""
        return noise


@dataclass(frozen=True)
class _Scaled:
    """A call with what the network gets at the level of the samples."""

    levels: Exploding
    call: Call

    def __call__(self, network: torch.nn.Module, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return self.call(network, *self.levels.given(x, t), conditioning)
