"""Edits as the published code of Park et al. (NeurIPS 2023) makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from tqdm import tqdm

from latentjac.arguments import check_generator, check_left, check_number
from latentjac.compat import Preset, find_preset
from latentjac.diffusion import Point, denoise, predict_noise
from latentjac.diffusion.park2023 import check_park2023
from latentjac.edit_options import DISTANCE, LARGEST_GAIN
from latentjac.editing.arguments import set_checked
from latentjac.editing.diagnostics import Along, Observer
from latentjac.editing.methods.method import Job, Walked
from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.walk import StepRecord, Walks, walk
from latentjac.geometry.linearity import measure_linearity
from latentjac.models import Model

if TYPE_CHECKING:
    from latentjac.editing.result import Edit


@dataclass(frozen=True, kw_only=True)
class Published(XSpaceMethod):
    """Both ways along each direction, as the published code of Park et al. (2023) does, at a point of its grid.

    By steps of guidance with a constant gain, with images at every ``(num_steps + 1) // 4``-th. Distances in the result
    are signed numbers of steps; ``distance``, ``mask`` and ``compose`` of :func:`latentjac.edit` are left alone. See
    docs/pullback.md. Further options are those of :class:`latentjac.editing.XSpaceMethod`.

    Attributes:
        gain: The gain; by default that of the published scripts, 1 with text and 0.1 without.
        generator: Without text, source of the noise of the last steps; a CPU generator seeded with 0 by default.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    gain: float | None = None
    generator: torch.Generator | None = None

    unit: ClassVar[str] = "steps of guidance"
    projects: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, gain=check_number("Published", "gain", self.gain, 0, LARGEST_GAIN, optional=True))
        check_generator("Published", self.generator)

    def walk(self, job: Job) -> Walked:
        """Walk every direction both ways and make images of frames at regular steps of the walks."""
        preset = self._check(job)
        model, point, num_steps, layer = (
            job.model,
            job.point_under(self.prompt),
            self.num_steps,
            self.layer_in(job.model),
        )
        rows = job.rows(point.sample)
        text = bool(point.conditioning)
        gain = preset.gain(text) if self.gain is None else self.gain
        sigma = point.noise
        linearity = measure_linearity(model, point, rows, sigma, self.linearity_tolerance)
        ways = rows.new_tensor([-1.0, 1.0]).repeat(len(rows))
        probes = (preset.probe * ways).view(-1, 1, 1, 1) * rows.repeat_interleave(2, 0)
        walks = Walks(model, point, probes[:, None], ways[:, None], num_steps, sigma)
        observer = Observer(model, point, layer, sigma, len(probes), num_steps)
        frames = tuple(range(num_steps + 1))[:: max(1, (num_steps + 1) // preset.frames)]
        # One column for each signed number of steps; the one without steps counts once.
        columns = [(0, step) for step in frames[:0:-1]] + [(1, step) for step in frames]
        with job.bar(num_steps + job.level) as bar:
            way = walk(walks, ConstantGain(model, point, probes, gain), observer, bar, (len(rows), 2), frames)
            points = torch.stack([way.samples[frames.index(step), :, side] for side, step in columns], 1)
            noisy_below = 0 if text else job.schedule.level(t=preset.noisy_below)
            samples = denoise(
                model, points.flatten(0, 1), job.schedule, job.level, job.point.conditioning, bar,
                noisy_below=noisy_below, generator=self.generator or torch.Generator().manual_seed(0),
            )  # fmt: skip
        return Walked(
            samples=samples.view(points.shape),
            points=points,
            directions=rows,
            distances=tuple(float(step if side else -step) for side, step in columns),
            num_steps=num_steps,
            layer=layer,
            linearity=linearity,
            along=_along(observer, columns, len(rows)),
            gains=torch.full((num_steps, *points.shape[:2]), gain, dtype=torch.float64, device="cpu"),
        )

    def _check(self, job: Job) -> Preset:
        """The settings of the published code; raise where the job leaves it a choice that it does not have."""
        where = "with method=Published(...)"
        given = {
            "distance": (job.distances, (DISTANCE,)),
            "mask": (None if job.mask is None else "one", None),
            "compose": (job.compose, False),
        }
        for name, (value, usual) in given.items():
            if value != usual:
                raise ValueError(f"edit: {name} must be left out {where}, which has its own, got {value}")
        preset = find_preset("edit", "pullback", {})
        check_park2023("edit", job.model, job.point)
        assert preset is not None
        if job.point.conditioning:
            check_left("edit", "method.generator", self.generator, None, "with text, whose last steps take no noise")
        return preset

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Its frames are its images: there are none between them."""
        raise ValueError("walk_frames: edit must keep its way, got one with method=Published(...); draw edit.images")


class ConstantGain:
    """Steps ``x <- x + gain [eps(x + probe v) - eps(x)]`` along directions ``[w, C, H, W]`` of any length.

    The gain is one for all, or ``[w, 1, 1, 1]``.
    """

    def __init__(self, model: Model, point: Point, directions: torch.Tensor, gain: float | torch.Tensor) -> None:
        self._model, self._point, self._probes, self._gain = model, point, directions, gain

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The difference of the predicted noise, as long as it comes out."""
        both = torch.cat([x + self._probes, x])
        ahead, here = predict_noise(self._model, both, self._point.timestep, self._point.conditioning).chunk(2)
        return self._gain * (ahead - here)

    def record(self) -> StepRecord:
        """Nothing: the gain is known before."""
        return StepRecord()


def _along(observer: Observer, columns: list[tuple[int, int]], directions: int) -> Along:
    """Lengths up to every frame; linearity is that of the walk a frame lies on."""
    sides, steps = (list(numbers) for numbers in zip(*columns, strict=True))
    path, feature_path = (
        torch.stack(lengths).unflatten(1, (directions, 2))[steps, :, sides].T
        for lengths in (observer.paths, observer.feature_paths)
    )
    whole = observer.along((directions, 2))
    return Along(path, feature_path, whole.steps, whole.norm_ratio[:, :, sides], whole.cosine[:, :, sides])
