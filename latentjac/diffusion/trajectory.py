"""Points on the path between an image and noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from latentjac.arguments import FLOATING, check_choice, check_dense, check_int
from latentjac.diffusion.arguments import check_conditioning, check_model, check_prompts, check_timestep
from latentjac.diffusion.schedule import GRIDS
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.diffusion.schedule import Schedule
    from latentjac.models import Model


@dataclass(frozen=True)
class Point:
    """A noisy sample, where bases are computed and edits begin.

    Attributes:
        sample: ``[B, C, H, W]``.
        timestep: Timestep of the training schedule; fractional on the grid ``"pullback"``.
        num_inference_steps: Number of DDIM steps of the grid that leads from here to the image.
        num_train_timesteps: T.
        conditioning: What the network gets beside sample and timestep; empty without text.
        grid: Which grid; see :class:`latentjac.diffusion.Schedule`.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If a value is out of range, or sample is no batch of dense floating-point values.
    """

    sample: torch.Tensor
    timestep: int | float
    num_inference_steps: int
    num_train_timesteps: int = 1000
    conditioning: tuple[torch.Tensor, ...] = ()
    grid: str = "scheduler"

    def __post_init__(self) -> None:
        name = "Point"
        sample = check_dense(name, "sample", self.sample)
        if sample.ndim < 2 or sample.numel() == 0 or sample.dtype not in FLOATING:
            got = f"{list(sample.shape)} {sample.dtype}"
            raise ValueError(f"{name}: sample must be a floating-point batch [B, C, H, W], got {got}")
        total = check_int(name, "num_train_timesteps", self.num_train_timesteps, 1)
        checked = {
            "sample": sample,
            "num_train_timesteps": total,
            "timestep": check_timestep(name, self.timestep, total),
            "num_inference_steps": check_int(name, "num_inference_steps", self.num_inference_steps, 1, total),
            "conditioning": check_conditioning(name, "conditioning", self.conditioning, len(sample)),
            "grid": check_choice(name, "grid", self.grid, GRIDS),
        }
        for field_name, value in checked.items():
            object.__setattr__(self, field_name, value)

    @property
    def t(self) -> float:
        """Timestep as a fraction of T."""
        return self.timestep / self.num_train_timesteps

    @public
    def with_prompt(
        self, model: Model, prompt: str | list[str] | None, negative_prompt: str = "", guidance_scale: float = 1.0
    ) -> Point:
        """The same sample under another prompt; arguments are those of :meth:`Model.encode_prompt`.

        Bases at the new point, and edits from it, are those under this prompt.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If the model takes no prompt, or there are several texts but not one a sample.
        """
        check_model("with_prompt", model)
        prompt, negative_prompt, guidance_scale = check_prompts(
            "with_prompt", model, prompt, negative_prompt, guidance_scale
        )
        if isinstance(prompt, list) and len(prompt) not in (1, len(self.sample)):
            raise ValueError(
                f"with_prompt: prompt must be one text or {len(self.sample)} (as many as samples), got {len(prompt)}"
            )
        return replace(self, conditioning=model.encode_prompt(prompt, negative_prompt, guidance_scale))

    def __repr__(self) -> str:
        return f"Point(sample {list(self.sample.shape)}, timestep={self.timestep}, t={self.t:.3f})"


@dataclass(frozen=True)
class Trajectory:
    """Noisy samples of an image at every level of a schedule.

    Attributes:
        samples: ``[levels + 1, B, C, H, W]``; entry 0 is the image itself. With ``compat="pullback"`` they are those of
            the way back down, and entry 0 is the reconstruction.
        schedule: The levels; ``schedule.timesteps[i - 1]`` belongs to ``samples[i]``.
        reconstruction: Image that DDIM makes from the last sample, ``[B, C, H, W]``.
        psnr: Peak signal-to-noise ratio of the reconstruction in dB, one an image.
        evaluations: Network evaluations an image spent on the way up.
        conditioning: What the network got beside sample and timestep.
    """

    samples: torch.Tensor = field(repr=False)
    schedule: Schedule = field(repr=False)
    reconstruction: torch.Tensor = field(repr=False)
    psnr: tuple[float, ...]
    evaluations: int
    conditioning: tuple[torch.Tensor, ...] = field(default=(), repr=False)

    def at(self, t: float | None = None, *, timestep: int | float | None = None) -> Point:
        """The point nearest to a fraction of T or to a timestep.

        Args:
            t: Fraction of T in [0, 1]; 0.6 lies at timestep 600 of 1000.
            timestep: Timestep of the training schedule, instead of t.

        Raises:
            TypeError: If not exactly one of the two is given.
            ValueError: If it is out of range.
        """
        level = self.schedule.nearest("at", t, timestep)
        return Point(
            self.samples[level],
            self.schedule.timesteps[level - 1],
            self.schedule.num_inference_steps,
            self.schedule.num_train_timesteps,
            self.conditioning,
            self.schedule.grid,
        )
