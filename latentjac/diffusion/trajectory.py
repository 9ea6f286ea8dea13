"""Points on the path between an image and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentjac.arguments import FLOATING, check_dense, check_device, check_dtype, check_int, check_kind, shown
from latentjac.diffusion import point_files
from latentjac.diffusion.arguments import check_conditioning, check_model, conditioning_for
from latentjac.diffusion.schedule import Schedule
from latentjac.models import Conditioning
from latentjac.models.beside import beside_of
from latentjac.models.classes import Asked
from latentjac.notebooks import Displayed
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models import Model

LEAST_PSNR = 20.0  # dB: a way back that ends further away shows another picture


class InversionStatus(str, Enum):
    """How the inversion of a picture ended."""

    CONVERGED = "every step solved to the tolerance"
    EXPLICIT = "a fixed number of evaluations"
    OUT_OF_EVALUATIONS = "a step not solved to the tolerance"
    LOST = "the way back leads to another picture"

    @property
    def fine(self) -> bool:
        """Whether it ended as it was meant to."""
        return self in (InversionStatus.CONVERGED, InversionStatus.EXPLICIT)


@dataclass(frozen=True)
class Point:
    """A noisy sample, where bases are computed and edits begin.

    Attributes:
        sample: ``[B, C, H, W]``.
        level: Where in the schedule, from 1 to the noisiest.
        schedule: The levels that lead from here to the image.
        conditioning: What the network gets beside sample and timestep; empty without text.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If a value is out of range, or sample is no batch of dense floating-point values.

    Example:
        >>> point = path.at(t=0.7)
        >>> round(point.t, 1)
        0.7
    """

    sample: torch.Tensor
    level: int
    schedule: Schedule
    conditioning: Conditioning = field(default_factory=Conditioning)

    def __post_init__(self) -> None:
        name = "Point"
        sample = check_dense(name, "sample", self.sample)
        if sample.ndim < 2 or sample.numel() == 0 or sample.dtype not in FLOATING:
            got = f"{list(sample.shape)} {sample.dtype}"
            raise ValueError(f"{name}: sample must be a floating-point batch [B, C, H, W], got {got}")
        check_kind(name, "schedule", self.schedule, Schedule, "a latentjac.diffusion.Schedule")
        check_conditioning(name, "conditioning", self.conditioning, len(sample))
        object.__setattr__(self, "sample", sample)
        object.__setattr__(self, "level", check_int(name, "level", self.level, 1, self.schedule.top))

    @property
    def timestep(self) -> int | float:
        """Timestep of the training schedule that the network gets; fractional on some schedules."""
        return self.schedule.timesteps[self.level]

    @property
    def t(self) -> float:
        """Timestep as a fraction of T."""
        return self.timestep / self.schedule.num_train_timesteps

    @property
    def signal(self) -> float:
        """Factor of the clean sample in the noisy one."""
        return self.schedule.signals[self.level]

    @property
    def noise(self) -> float:
        """Standard deviation of the noise in the sample."""
        return self.schedule.noises[self.level]

    @property
    def num_inference_steps(self) -> int:
        """Number of steps that were asked for when the schedule was made."""
        return self.schedule.num_inference_steps

    @public
    def with_prompt(
        self,
        model: Model,
        prompt: str | list[str] | None = None,
        negative_prompt: str = "",
        guidance_scale: float = 1.0,
        *,
        class_label: int | list[int] | None = None,
        negative_class_label: int | None = None,
    ) -> Point:
        """The same sample under another prompt or class; arguments are those of :meth:`Model.conditioning`.

        Bases at the new point, and edits from it, are those under this prompt or class. Pictures, embeddings and
        strengths that the network gets beside the sample stay.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If the model takes no prompt or class, or there are several but not one a sample.
        """
        check_model("with_prompt", model)
        asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
        conditioning = conditioning_for(
            "with_prompt",
            model,
            asked,
            None,
            len(self.sample),
            "as many as samples",
            beside_of(self.conditioning),
        )
        return replace(self, conditioning=conditioning())

    @public
    def rows(self, index: slice) -> Point:
        """The point of some of the samples, with their rows of the conditioning.

        Raises:
            TypeError: If index is no slice.
            ValueError: If it selects none.
        """
        check_kind("rows", "index", index, slice, "a slice")
        if not range(len(self.sample))[index]:
            raise ValueError(f"rows: index must select some of {len(self.sample)} samples, got {index}")
        return replace(self, sample=self.sample[index], conditioning=self.conditioning.rows(index))

    def split(self) -> list[Point]:
        """A point for each of the samples, with its row of the conditioning."""
        return [self.rows(slice(i, i + 1)) for i in range(len(self.sample))]

    @public
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Point:
        """On another device, in another type.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there is no such device.
        """
        device = check_device("to", "device", device, optional=True)
        dtype = check_dtype("to", "dtype", dtype, optional=True)
        sample = self.sample.to(device=device, dtype=dtype)
        return replace(self, sample=sample, conditioning=self.conditioning.to(device, dtype))

    @public
    def save(self, path: str | Path) -> Path:
        """Write a ``.safetensors`` file; it appears whole or not at all.

        Raises:
            TypeError: If path is no path.
            ValueError: If its name has another ending.
            FileNotFoundError: If its folder is missing.
            FileExistsError: If there is a file that is no point.
        """
        facts = {"level": self.level, "schedule": self.schedule.to_dict()}
        return point_files.write(path, "point", {"sample": self.sample}, self.conditioning, facts)

    @classmethod
    @public
    def load(cls, path: str | Path) -> Point:
        """Read a file that :meth:`save` wrote; tensors come to the CPU.

        Raises:
            TypeError: If path is no path.
            FileNotFoundError: If there is no such file.
            FileError: If it is not a file of a point, or is damaged.
        """
        return point_files.read(
            path, "point", ("sample",), ("level",), lambda t, c, s, f: cls(t["sample"], f["level"], s, c)
        )

    def __repr__(self) -> str:
        return f"Point(sample {list(self.sample.shape)}, timestep={self.timestep}, t={self.t:.3f})"


@dataclass(frozen=True)
class Trajectory(Displayed):
    """Noisy samples of an image at every level of a schedule.

    Attributes:
        samples: ``[levels + 1, B, C, H, W]``; entry 0 is the image itself, or the reconstruction where the samples are
            those of the way back down.
        schedule: The levels; those of ``samples[i]`` are ``schedule.timesteps[i]``, ``signals[i]`` and ``noises[i]``.
        reconstruction: Image that the schedule's solver makes from the last sample, ``[B, C, H, W]``.
        psnr: Peak signal-to-noise ratio of the reconstruction in dB, one an image.
        evaluations: Network evaluations an image spent on the way up.
        conditioning: What the network got beside sample and timestep.
        status: How each inversion ended; where it is not known, by psnr alone.
        error: Estimates of the relative error of the last samples, ``|x - x'| / |x'|`` with x' of twice as many steps,
            one an image; empty where it was not estimated. The error itself is larger, about 4/3 of it with a solver of
            second order and twice as large with ``Implicit``. It is no part of what psnr measures: a way back can undo
            the errors of the way up.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If there is not a sample for each level, or the parts do not fit together.

    Example:
        >>> len(path.samples)  # the photo and twelve levels above it
        13
        >>> path.at(t=0.3).t < path.at(t=0.7).t
        True
    """

    samples: torch.Tensor = field(repr=False)
    schedule: Schedule
    reconstruction: torch.Tensor = field(repr=False)
    psnr: tuple[float, ...]
    evaluations: int
    conditioning: Conditioning = field(default_factory=Conditioning)
    status: tuple[InversionStatus, ...] = ()
    error: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        name = "Trajectory"
        check_kind(name, "schedule", self.schedule, Schedule, "a latentjac.diffusion.Schedule")
        samples, back = (check_dense(name, n, getattr(self, n)) for n in ("samples", "reconstruction"))
        if samples.ndim < 3 or samples.dtype not in FLOATING or samples.numel() == 0:
            got = f"{list(samples.shape)} {samples.dtype}"
            raise ValueError(f"{name}: samples must be floating-point [levels + 1, B, C, H, W], got {got}")
        if len(samples) != self.schedule.top + 1:
            raise ValueError(f"{name}: samples must be {self.schedule.top + 1}, one a level, got {len(samples)}")
        if back.shape != samples.shape[1:] or back.dtype != samples.dtype:
            expected, got = f"{list(samples.shape[1:])} {samples.dtype}", f"{list(back.shape)} {back.dtype}"
            raise ValueError(f"{name}: reconstruction must be {expected} as a sample is, got {got}")
        if len(self.psnr) != len(back):
            raise ValueError(f"{name}: psnr must be {len(back)} numbers, got {len(self.psnr)}")
        check_conditioning(name, "conditioning", self.conditioning, len(back))
        known = InversionStatus.EXPLICIT, InversionStatus.LOST
        status = tuple(self.status) or tuple(known[decibels < LEAST_PSNR] for decibels in self.psnr)
        for argument, values, least in (("status", status, len(back)), ("error", self.error, 0)):
            if len(values) not in (least, len(back)):
                raise ValueError(f"{name}: {argument} must be {len(back)} values, one an image, got {len(values)}")
        object.__setattr__(self, "status", tuple(InversionStatus(entry) for entry in status))

    def at(self, t: float | None = None, *, timestep: int | float | None = None) -> Point:
        """The point nearest to a fraction of T or to a timestep.

        Args:
            t: Fraction of T in [0, 1]; 0.6 lies at timestep 600 of 1000.
            timestep: Timestep of the training schedule, instead of t.

        Raises:
            TypeError: If not exactly one of the two is given.
            ValueError: If it is out of range, or above the level where the inversion ended.
        """
        level = self.schedule.nearest("at", t, timestep)
        return Point(self.samples[level], level, self.schedule, self.conditioning)

    @public
    def save(self, path: str | Path) -> Path:
        """Write a ``.safetensors`` file; it appears whole or not at all. Errors are those of :meth:`Point.save`."""
        tensors = {"samples": self.samples, "reconstruction": self.reconstruction}
        facts = {
            "psnr": list(self.psnr),
            "evaluations": self.evaluations,
            "status": [entry.name for entry in self.status],
            "error": list(self.error),
            "schedule": self.schedule.to_dict(),
        }
        return point_files.write(path, "trajectory", tensors, self.conditioning, facts)

    @classmethod
    @public
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file that :meth:`save` wrote; tensors come to the CPU. Errors are those of :meth:`Point.load`."""
        return point_files.read(
            path,
            "trajectory",
            ("samples", "reconstruction"),
            ("psnr", "evaluations"),
            lambda t, c, s, f: cls(
                t["samples"],
                s,
                t["reconstruction"],
                point_files.numbers(f, "psnr"),
                point_files.count(f),
                c,
                tuple(map(_status_of, point_files.values(f, "status"))),
                point_files.numbers(f, "error"),
            ),
            later=("status", "error"),
        )

    def __repr__(self) -> str:
        pictures = "1 picture" if len(self.psnr) == 1 else f"{len(self.psnr)} pictures"
        error = f", error of the last sample {_spread(self.error, '.2g')}" if self.error else ""
        status = "; ".join(sorted({entry.value for entry in self.status}))
        return (
            f"Trajectory({pictures}, {self.schedule!r}, {self.evaluations} evaluations, round trip "
            f"{_spread(self.psnr, '.1f')} dB{error}, {status})"
        )


def _spread(numbers: Sequence[float], form: str) -> str:
    """A number, or the least and the largest of several."""
    low, high = format(min(numbers), form), format(max(numbers), form)
    return low if low == high else f"{low} to {high}"


def _status_of(name: object) -> InversionStatus:
    if not isinstance(name, str) or name not in InversionStatus.__members__:
        raise ValueError(f"status must be names of {list(InversionStatus.__members__)}, got {shown(name)}")
    return InversionStatus[name]
