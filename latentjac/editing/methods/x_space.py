"""What methods share that move the noisy sample: their options, and the order of the work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from tqdm import tqdm

from latentjac.arguments import check_int, check_number, check_text
from latentjac.diffusion import Point, denoise
from latentjac.edit_options import LINEARITY_TOLERANCE, MOST_STEPS, NUM_STEPS
from latentjac.editing.arguments import grouped, set_checked
from latentjac.editing.diagnostics import Observer
from latentjac.editing.methods.method import Job, Walked
from latentjac.editing.null_space import left_of, null_space
from latentjac.editing.walk import Steps, Walks, walk
from latentjac.geometry.linearity import Linearity, measure_linearity
from latentjac.models import Model

if TYPE_CHECKING:
    from latentjac.editing.result import Edit


@dataclass(frozen=True, kw_only=True)
class XSpaceMethod:
    """A method that walks side by side by steps of the noisy sample, then goes down to images.

    Attributes:
        num_steps: Least number of steps of a walk, at most 1000.
        prompt: For models with text, what the walk is under; images are made under the conditioning of the point, which
            is also that of the walk by default.
        class_label: The same for models with classes.
        layer: Feature map that is measured on the way (and followed, where the method follows one); by default
            ``"mid"``, or ``"eps"`` for networks that have no such layer.
        linearity_tolerance: Relative change of the noise difference that still counts as linear, in (0, 1).

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    num_steps: int = NUM_STEPS
    prompt: str | None = None
    class_label: int | None = None
    layer: str | None = None
    linearity_tolerance: float = LINEARITY_TOLERANCE

    unit: ClassVar[str] = "noise standard deviations"
    in_features: ClassVar[bool] = False
    projects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = type(self).__name__
        set_checked(
            self,
            num_steps=check_int(name, "num_steps", self.num_steps, 1, MOST_STEPS),
            prompt=check_text(name, "prompt", self.prompt, optional=True),
            class_label=check_int(name, "class_label", self.class_label, 0, optional=True),
            layer=check_text(name, "layer", self.layer, optional=True),
            linearity_tolerance=check_number(name, "linearity_tolerance", self.linearity_tolerance, 0, 1),
        )

    def layer_in(self, model: Model) -> str:
        """The layer, or ``"mid"`` where the network has such a one, else ``"eps"``."""
        if self.layer is not None:
            model.resolve_layer(self.layer)
            return self.layer
        try:
            model.resolve_layer("mid")
        except ValueError:
            return "eps"
        return "mid"

    def check_size(self, values: int) -> None:
        """Raise if a sample of so many values is too small for the method."""

    def enough_steps(self, ways: torch.Tensor, linearity: tuple[Linearity, ...]) -> int:
        """So many that none is longer than the network is linear, and at least as many as asked for.

        Raises:
            ValueError: If those would be more than the most.
        """
        radius = min(entry.radius for entry in linearity)
        longest = float(ways.abs().sum(1).max())
        num_steps = max(self.num_steps, math.ceil(longest / radius))
        if num_steps > MOST_STEPS:
            raise ValueError(
                f"edit: distance must be within {MOST_STEPS} steps of the linear range {radius:g}, got {longest:g}"
            )
        return num_steps

    def steps(self, walks: Walks, layer: str, linearity: tuple[Linearity, ...]) -> Steps:
        """What decides on the steps of walks."""
        raise NotImplementedError

    def walk(self, job: Job) -> Walked:
        """Walk all walks side by side, then go down to images."""
        model, layer, point = job.model, self.layer_in(job.model), job.point_under(self.prompt, self.class_label)
        self.check_size(point.sample.numel())
        rows = job.rows(point.sample)
        outside = _outside(job, point)
        if outside is not None:
            rows = left_of(rows, outside)
        sigma = job.sigma
        linearity = measure_linearity(model, point, rows, sigma, self.linearity_tolerance)
        directions, ways, layout = grouped(rows, job.distances, job.compose)
        num_steps = self.enough_steps(ways, linearity)
        walks = Walks(model, point, directions, ways, num_steps, sigma, outside)
        observer = Observer(model, point, layer, sigma, len(directions), num_steps)
        steps = self.steps(walks, layer, linearity)
        with job.bar(num_steps + job.level) as bar:
            way = walk(walks, steps, observer, bar, layout)
            points = way.samples[-1].flatten(0, 1)
            samples = denoise(model, points, job.schedule, job.level, job.point.conditioning, bar)
        record = steps.record().laid_out((len(rows), 1) if job.compose else layout)
        return Walked(
            samples=samples.view(*layout, *samples.shape[1:]),
            points=points.view(*layout, *points.shape[1:]),
            directions=rows,
            distances=job.distances,
            num_steps=num_steps,
            layer=layer,
            linearity=linearity,
            along=observer.along(layout),
            way=way,
            gains=record.gains,
            retained=record.retained,
            overlaps=record.overlaps,
        )

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Clean samples from where the longest walks came through; no step is taken."""
        x = torch.stack([_on_the_way(edit, direction, distance) for distance in distances])
        return denoise(job.model, x, job.schedule, job.level, job.point.conditioning, bar)


def _outside(job: Job, point: Point) -> torch.Tensor | None:
    """What no step may take: directions that the picture outside the mask listens to most; None if there are none."""
    mask = job.mask
    if mask is None or mask.rank == 0:
        return None
    basis = null_space(
        job.model, point, mask.pixels, mask.null_rank, mask.null_energy, tol=mask.tol, progress=job.progress
    )
    return basis.v


def _on_the_way(edit: Edit, direction: int, distance: float) -> torch.Tensor:
    """The noisy sample at a distance, from the longest walk on its side."""
    assert edit.way is not None
    if edit.composed:
        return edit.way.at(distance)[0, 0]
    end = min(edit.distances) if distance < 0 else max(edit.distances)
    if distance == 0 or end == 0:
        return edit.way.samples[0, direction, 0]
    return edit.way.at(distance / end)[direction, edit.distances.index(end)]
