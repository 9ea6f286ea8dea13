"""What methods share that move the noisy sample: their options, and the order of the work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_int, check_number, check_text
from latentjac.diffusion import denoise
from latentjac.edit_options import LINEARITY_TOLERANCE, MOST_STEPS
from latentjac.editing.arguments import set_checked
from latentjac.editing.diagnostics import Observer
from latentjac.editing.evaluations import Evaluations
from latentjac.editing.lines import Lines
from latentjac.editing.methods.method import Job
from latentjac.editing.null_space import left_of, null_space
from latentjac.editing.questions import Asking
from latentjac.editing.result import Walked
from latentjac.editing.walk import Steps, Walks, walk
from latentjac.editing.ways_down import nodes_of, way_between, way_down
from latentjac.geometry.linearity import Linearity
from latentjac.models import Model

if TYPE_CHECKING:
    from latentjac.editing.result import Edit

# By the order of steps: the least number of them, and the longest, in ranges where the network is linear
# (benchmarks/bench_walks.py).
_LEAST_STEPS = {1: 16, 2: 3}
_LONGEST_STEP = {1: 1.0, 2: 2.0}


@dataclass(frozen=True, kw_only=True)
class XSpaceMethod:
    """A method that walks side by side by steps of the noisy sample, then goes down to images.

    Attributes:
        num_steps: Least number of steps of a walk, at most 1000; by default 16 of first order, or 3 of second.
            There are more where they would be longer than once or twice the range in which the network is linear.
        prompt: For models with text, what the walk is under; images are made under the conditioning of the point, which
            is also that of the walk by default.
        class_label: The same for models with classes.
        layer: Feature map that is measured on the way (and followed, where the method follows one); by default
            ``"mid"``, or ``"eps"`` for networks that have no such layer.
        linearity_tolerance: Relative change of the noise difference that still counts as linear, in (0, 1).
        diagnostics: Measure how far the network is linear, and the way. Without, ``linearity`` and ``along`` of the
            edit are None, and walks go as if the network were linear up to 1.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    num_steps: int | None = None
    prompt: str | None = None
    class_label: int | None = None
    layer: str | None = None
    linearity_tolerance: float = LINEARITY_TOLERANCE
    diagnostics: bool = True

    unit: ClassVar[str] = "noise standard deviations"
    in_features: ClassVar[bool] = False
    projects: ClassVar[bool] = True

    @property
    def order(self) -> int:
        """Order of the steps, 1 or 2: with which power of their length a walk errs."""
        return 1

    def __post_init__(self) -> None:
        name = type(self).__name__
        set_checked(
            self,
            num_steps=check_int(name, "num_steps", self.num_steps, 1, MOST_STEPS, optional=True),
            prompt=check_text(name, "prompt", self.prompt, optional=True),
            class_label=check_int(name, "class_label", self.class_label, 0, optional=True),
            layer=check_text(name, "layer", self.layer, optional=True),
            linearity_tolerance=check_number(name, "linearity_tolerance", self.linearity_tolerance, 0, 1),
            diagnostics=check_bool(name, "diagnostics", self.diagnostics),
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

    @property
    def usual_steps(self) -> int:
        """The least number of steps where none was asked for."""
        return _LEAST_STEPS[self.order]

    def enough_steps(self, longest: float, radius: float) -> int:
        """So many for a way that none is too long for where the network is linear, and at least as many as asked for.

        Args:
            longest: Length of the longest way.
            radius: How far the network is linear.

        Raises:
            ValueError: If those would be more than the most.
        """
        num_steps = max(self.num_steps or self.usual_steps, math.ceil(longest / self.longest_step(radius)))
        if num_steps > MOST_STEPS:
            raise ValueError(
                f"edit: distance must be within {MOST_STEPS} steps of the linear range {radius:g}, got {longest:g}"
            )
        return num_steps

    def longest_step(self, radius: float) -> float:
        """The longest step where the network is linear up to a radius."""
        return _LONGEST_STEP[self.order] * radius

    def steps(self, walks: Walks, layer: str, linearity: tuple[Linearity, ...] | None) -> Steps:
        """What decides on the steps of walks."""
        raise NotImplementedError

    def walk(self, job: Job) -> Asking[Walked]:
        """Walk all walks side by side, then go down to images."""
        model, layer, point = job.model, self.layer_in(job.model), job.point_under(self.prompt, self.class_label)
        self.check_size(point.sample.numel())
        rows = job.rows(point.sample)
        outside = self.outside(job) if job.outside is None else job.outside
        if outside is not None:
            rows = left_of(rows, outside)
        lines = Lines.along(rows, job.distances, job.compose)
        evaluations = Evaluations(model, point, layer if self.diagnostics else None)
        linearity, sigma = None, job.sigma
        if self.diagnostics:
            look = yield from evaluations.look_around(rows, lines.signs, sigma, self.linearity_tolerance)
            linearity = look.linearity
        radius = min((entry.radius for entry in linearity or ()), default=1.0)
        num_steps = self.enough_steps(float(lines.ways.abs().sum(1).max()), radius)
        walks = Walks(model, point, lines, num_steps, sigma, evaluations, outside)
        observer = Observer(evaluations, point, sigma, len(lines.ways), num_steps) if self.diagnostics else None
        steps = self.steps(walks, layer, linearity)
        with job.bar(num_steps + job.level) as bar:
            way = yield from walk(walks, steps, observer, bar, order=self.order)
            points = way.read(lines)
            samples, predicted = yield from way_down(job, points.flatten(0, 1), bar)
        record = steps.record().read(lines, job.compose)
        return Walked(
            samples=samples.view(points.shape),
            points=points,
            directions=rows,
            distances=job.distances,
            num_steps=num_steps,
            layer=layer,
            linearity=linearity,
            along=None if observer is None else observer.along(lines),
            way=way,
            gains=record.gains,
            retained=record.retained,
            overlaps=record.overlaps,
            predicted=None if predicted is None else predicted.of_edit(*points.shape[:2]),
        )

    def outside(self, job: Job) -> torch.Tensor | None:
        """What no step may take: directions that the picture outside the mask listens to most; None if there are none.

        It is that under the prompt of the walk.
        """
        mask = job.mask
        if mask is None or mask.rank == 0:
            return None
        point = job.point_under(self.prompt, self.class_label)
        rank, energy = mask.null_rank, mask.null_energy
        return null_space(job.model, point, mask.pixels, rank, energy, tol=mask.tol, progress=job.progress).v

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Clean samples from where the longest walks came through; no step is taken.

        Where the ways down of the edit foretell about what is predicted on these, the network is asked at every other
        level.
        """
        x = torch.stack([_on_the_way(edit, direction, distance) for distance in distances])
        nodes = nodes_of(edit, direction)
        if nodes is None or not nodes.foretell():
            return denoise(job.model, x, job.schedule, job.level, job.point.conditioning, bar)
        return way_between(job, x, nodes.between(distances), bar)


def _on_the_way(edit: Edit, direction: int, distance: float) -> torch.Tensor:
    """The noisy sample at a distance, from the walk on its side."""
    assert edit.way is not None
    side, end = next((i, end) for i, end in enumerate(edit.way.ends) if distance * end > 0 or distance == 0)
    return edit.way.at(distance / end if distance else 0.0)[direction, side]
