"""The grid of noise levels a diffusers scheduler walks, and the deterministic step between two of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_choice, check_int, check_number, check_tensor, shown
from latentjac.diffusion.arguments import check_model

if TYPE_CHECKING:
    from latentjac.models import Model


GRIDS = ("scheduler", "pullback")
# A network may predict anything finite, which its samples then show.
_LARGEST = torch.finfo(torch.float64).max


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
        self.num_inference_steps, self.grid = check_grid("Schedule", model, num_inference_steps, grid)
        self.num_train_timesteps = model.num_train_timesteps
        self.clean_timestep: int | float = 0
        self.timesteps: tuple[int | float, ...]
        if self.grid == "pullback":
            self._place_evenly(model)
        else:
            self._place_as_diffusers(model)

    def _place_as_diffusers(self, model: Model) -> None:
        from diffusers import DDIMScheduler

        total = self.num_train_timesteps
        # Clipping and thresholding would make the steps impossible to invert.
        with torch.device("cpu"):  # whatever the default device is
            scheduler = DDIMScheduler.from_config(model.scheduler.config, clip_sample=False, thresholding=False)
            scheduler.set_timesteps(self.num_inference_steps)
        # diffusers' grid can leave the training schedule: a steps_offset pushes its last timestep past the end,
        # and trailing spacing rounds to an additional timestep of -1 for some numbers of steps (61, 103, ...).
        self.timesteps = tuple(sorted({min(int(t), total - 1) for t in scheduler.timesteps if t >= 0}))
        alphas = scheduler.alphas_cumprod.double()
        self.alphas = (float(scheduler.final_alpha_cumprod), *(float(alphas[t]) for t in self.timesteps))

    def _place_evenly(self, model: Model) -> None:
        # In float32, as published: which whole timestep is below some of them is decided by rounding.
        fractions = torch.linspace(0, 1, self.num_inference_steps, dtype=torch.float32, device="cpu")
        places = fractions * (self.num_train_timesteps - 1)
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
        return self.nearest("level", t, timestep)

    def nearest(self, function: str, t: Any, timestep: Any) -> int:
        """As :meth:`level`, for a function of another name."""
        if (t is None) == (timestep is None):
            got = "none of them" if t is None else "both"
            raise TypeError(f"{function}: t (fraction of T) or timestep must be given, exactly one of them, got {got}")
        if t is not None:
            target = check_number(function, "t", t, 0, 1, least=True, most=True) * self.num_train_timesteps
        elif self.grid == "pullback":
            target = check_number(function, "timestep", timestep, 0, self.num_train_timesteps, least=True)
        else:
            target = check_int(function, "timestep", timestep, 0, self.num_train_timesteps - 1)
        return min(range(1, len(self.alphas)), key=lambda i: abs(self.timesteps[i - 1] - target))

    def sigma(self, level: int) -> float:
        """Standard deviation of the noise at a level.

        Raises:
            TypeError: If level is not an int.
            ValueError: If there is no such level.
        """
        level = check_int("sigma", "level", level, 0, len(self.alphas) - 1)
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

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there is no such level, tensors differ in shape or are not finite, or noise comes with a step
                that does not lead down.
        """
        source, target = (
            check_int("step", name, level, 0, len(self.alphas) - 1)
            for name, level in (("source", source), ("target", target))
        )
        x = check_tensor("step", "x", x, _LARGEST)
        eps = _like("eps", eps, x)
        noise = None if noise is None else _like("noise", noise, x)
        clean_eps = None if clean_eps is None else _like("clean_eps", clean_eps, x)
        if noise is not None and target >= source:
            raise ValueError(f"step: target must lie below source = {source} with noise, got {target}")
        a, b = self.alphas[source], self.alphas[target]
        clean = (x - (1 - a) ** 0.5 * (eps if clean_eps is None else clean_eps)) / a**0.5
        if noise is None:
            return b**0.5 * clean + (1 - b) ** 0.5 * eps
        variance = (1 - b) / (1 - a) * (1 - a / b)
        return b**0.5 * clean + (1 - b - variance) ** 0.5 * eps + variance**0.5 * noise


def check_grid(function: str, model: Any, num_inference_steps: Any, grid: Any = "scheduler") -> tuple[int, str]:
    """Number of steps and name of a grid, if a model has such a one."""
    check_model(function, model)
    grid = check_choice(function, "grid", grid, GRIDS)
    total = model.num_train_timesteps
    steps = check_int(function, "num_inference_steps", num_inference_steps)
    least = 3 if grid == "pullback" else 1
    if not least <= steps <= total:
        raise ValueError(
            f"{function}: num_inference_steps must be in [{least}, T] = [{least}, {total}] on the grid {grid!r}, "
            f"got {shown(steps)}"
        )
    return steps, grid


def _like(argument: str, value: Any, x: torch.Tensor) -> torch.Tensor:
    value = check_tensor("step", argument, value, _LARGEST)
    if value.shape != x.shape or value.dtype != x.dtype or value.device != x.device:
        expected, got = (f"{list(t.shape)} {t.dtype} on {t.device}" for t in (x, value))
        raise ValueError(f"step: {argument} must be like x, {expected}, got {got}")
    return value
