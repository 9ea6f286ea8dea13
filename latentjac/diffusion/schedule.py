"""The grid of noise levels a diffusers scheduler walks, and the deterministic step between two of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from latentjac.models import Model


GRIDS = ("scheduler", "pullback")


class Schedule:
    """Noise levels from clean (level 0) to the noisiest, as diffusers' DDIMScheduler places them.

    With ``grid="pullback"`` they lie where the published code of Park et al. (2023) puts them: ``num_inference_steps``
    levels at ``linspace(0, 1, num_inference_steps) (T - 1)``, the first of which is the clean one. These timesteps are
    fractional; the network gets them as they are, and the signal power is that of the whole timestep below.

    Both directions walk the same levels. diffusers' own pair of DDIM schedulers does so only where the
    number of steps divides T, and the original code of the paper starts generation at another level than
    its inversion ends.

    Attributes:
        timesteps: Timestep of every level but the clean one, ascending.
        clean_timestep: Timestep of the clean level.
        alphas: Signal power of every level, ``len(timesteps) + 1`` values.
    """

    def __init__(self, model: Model, num_inference_steps: int, grid: str = "scheduler") -> None:
        total = model.num_train_timesteps
        if not isinstance(num_inference_steps, int) or isinstance(num_inference_steps, bool):
            raise TypeError(f"num_inference_steps: expected an int, got {type(num_inference_steps).__name__}")
        if not 1 <= num_inference_steps <= total:
            raise ValueError(
                f"num_inference_steps: expected an int in [1, T] = [1, {total}], got {num_inference_steps}"
            )
        if grid not in GRIDS:
            raise ValueError(f"grid: expected one of {list(GRIDS)}, got {grid!r}")
        self.num_inference_steps, self.num_train_timesteps, self.grid = num_inference_steps, total, grid
        self.clean_timestep: int | float = 0
        self.timesteps: tuple[int | float, ...]
        if grid == "pullback":
            self._place_evenly(model)
        else:
            self._place_as_diffusers(model)

    def _place_as_diffusers(self, model: Model) -> None:
        from diffusers import DDIMScheduler

        total = self.num_train_timesteps
        # Clipping and thresholding would make the steps impossible to invert.
        scheduler = DDIMScheduler.from_config(model.scheduler.config, clip_sample=False, thresholding=False)
        scheduler.set_timesteps(self.num_inference_steps)
        # diffusers' grid can leave the training schedule: a steps_offset pushes its last timestep past the end,
        # and trailing spacing rounds to an additional timestep of -1 for some numbers of steps (61, 103, ...).
        self.timesteps = tuple(sorted({min(int(t), total - 1) for t in scheduler.timesteps if t >= 0}))
        alphas = scheduler.alphas_cumprod.double()
        self.alphas = (float(scheduler.final_alpha_cumprod), *(float(alphas[t]) for t in self.timesteps))

    def _place_evenly(self, model: Model) -> None:
        if self.num_inference_steps < 3:
            raise ValueError(
                f"num_inference_steps: expected at least 3 with grid='pullback', got {self.num_inference_steps}"
            )
        # In float32, as published: which whole timestep is below some of them is decided by rounding.
        places = torch.linspace(0, 1, self.num_inference_steps, dtype=torch.float32) * (self.num_train_timesteps - 1)
        self.clean_timestep, *noisy = places.tolist()
        self.timesteps = tuple(noisy)
        self.alphas = tuple(model.alphas_cumprod[places.long()].tolist())

    def level(self, *, t: float | None = None, timestep: int | float | None = None) -> int:
        """Nearest noisy level to a fraction of T or to a timestep.

        Args:
            t: Fraction of T in [0, 1].
            timestep: Timestep of the training schedule; fractional only on a grid with such timesteps.

        Raises:
            TypeError: If not exactly one of the two is given, or it is not a number.
            ValueError: If it is out of range.
        """
        if (t is None) == (timestep is None):
            raise TypeError("at: expected exactly one of t (fraction of T) and timestep (int)")
        if t is not None:
            if isinstance(t, bool) or not isinstance(t, (int, float)):
                raise TypeError(f"t: expected a number in [0, 1], got {type(t).__name__}")
            if not 0 <= t <= 1:
                raise ValueError(f"t: expected a fraction of T in [0, 1] (timestep= takes integers), got {t}")
            target = t * self.num_train_timesteps
        else:
            kinds = (int, float) if self.grid == "pullback" else int
            if isinstance(timestep, bool) or not isinstance(timestep, kinds):
                raise TypeError(f"timestep: expected an int, got {type(timestep).__name__} (t= takes fractions of T)")
            if not 0 <= timestep < self.num_train_timesteps:
                raise ValueError(
                    f"timestep: expected an int in [0, T) = [0, {self.num_train_timesteps}), got {timestep}"
                )
            target = timestep
        return min(range(1, len(self.alphas)), key=lambda i: abs(self.timesteps[i - 1] - target))

    def sigma(self, level: int) -> float:
        """Standard deviation of the noise at a level."""
        return math.sqrt(1 - self.alphas[level])

    def step(
        self,
        x: torch.Tensor,
        eps: torch.Tensor,
        source: int,
        target: int,
        noise: torch.Tensor | None = None,
        *,
        clean_eps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """DDIM step between two levels: deterministic, in either direction, or the stochastic one down.

        Args:
            x: Samples at the source level, ``[B, ...]``.
            eps: Predicted noise.
            source: Level of x.
            target: Level to go to.
            noise: Standard normal values, to go down stochastically.
            clean_eps: Predicted noise for the clean sample that the step aims at, where it is not ``eps``.

        Returns:
            Samples at the target level (Song et al. 2021, equation 12 with eta = 0, or with noise eta = 1).
        """
        a, b = self.alphas[source], self.alphas[target]
        clean = (x - (1 - a) ** 0.5 * (eps if clean_eps is None else clean_eps)) / a**0.5
        if noise is None:
            return b**0.5 * clean + (1 - b) ** 0.5 * eps
        variance = (1 - b) / (1 - a) * (1 - a / b)
        return b**0.5 * clean + (1 - b - variance) ** 0.5 * eps + variance**0.5 * noise
