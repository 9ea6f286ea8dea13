"""Edits that leave the noisy sample where it is and move the features on the way down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_choice, check_number, check_text
from latentjac.edit_options import INJECTIONS, LINEARITY_TOLERANCE
from latentjac.editing.arguments import grouped, set_checked
from latentjac.editing.diagnostics import Along
from latentjac.editing.evaluations import Evaluations, features
from latentjac.editing.injection import ask_injected, denoise_injected, measure_injection
from latentjac.editing.methods.method import Job
from latentjac.editing.questions import Answer, Asking, Question, answered
from latentjac.editing.result import Walked
from latentjac.geometry.linearity import LENGTHS, compare
from latentjac.models import Conditioning, Model
from latentjac.models.layers import OUTPUTS, SIDE_BY_SIDE

if TYPE_CHECKING:
    from latentjac.editing.result import Edit


@dataclass(frozen=True, kw_only=True)
class HSpace:
    """Adds ``d rho u`` to the output of a layer while the sample is denoised.

    Directions are of the shape of that output, such as ``basis.u``; a distance d is in standard deviations rho of its
    entries at the point. There are no steps, and no null space to take out: a mask only measures leakage.

    Attributes:
        layer: Module that is added to.
        inject: ``"below"`` adds in every step from the point down (Haas et al. 2024), ``"point"`` in the first.
        asymmetric: Take only the predicted image from the network with the addition, and the noise of each step from
            the one without (Kwon et al. 2023).
        linearity_tolerance: Relative change of the noise difference that still counts as linear, in (0, 1).
        diagnostics: Measure how far the network is linear, and the step of the features; without, ``linearity`` and
            ``along`` of the edit are None.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range, or the layer is an output of the network.
    """

    layer: str = "mid"
    inject: str = INJECTIONS[0]
    asymmetric: bool = False
    linearity_tolerance: float = LINEARITY_TOLERANCE
    diagnostics: bool = True

    unit: ClassVar[str] = "feature standard deviations"
    in_features: ClassVar[bool] = True
    projects: ClassVar[bool] = False

    def __post_init__(self) -> None:
        name = "HSpace"
        layer = check_text(name, "layer", self.layer)
        if layer in OUTPUTS or SIDE_BY_SIDE in layer:
            raise ValueError(f"{name}: layer must be a module, to whose output can be added, got {self.layer!r}")
        set_checked(
            self,
            layer=layer,
            inject=check_choice(name, "inject", self.inject, INJECTIONS),
            asymmetric=check_bool(name, "asymmetric", self.asymmetric),
            linearity_tolerance=check_number(name, "linearity_tolerance", self.linearity_tolerance, 0, 1),
            diagnostics=check_bool(name, "diagnostics", self.diagnostics),
        )

    def layer_in(self, model: Model) -> str:
        """The layer; raises where there is none such."""
        model.resolve_layer(self.layer)
        return self.layer

    def walk(self, job: Job) -> Asking[Walked]:
        """Add directions to the features while denoising."""
        point, layer = job.point, self.layer_in(job.model)
        evaluations = Evaluations(job.model, point, layer)
        base = (yield from evaluations.ask_noise(point.sample))[0] if self.diagnostics else None
        here = yield from evaluations.ask_features(point.sample)
        rows, unit = job.rows(here), float(here.double().std())
        directions, ways, layout = grouped(rows, job.distances, job.compose)
        offsets = (unit * ways.view(*ways.shape, *[1] * (rows.ndim - 1)) * directions).sum(1)
        linearity = along = None
        if base is not None:
            signs = tuple(sign for sign in (1.0, -1.0) if (ways * sign > 0).any()) or (1.0,)
            tolerance = self.linearity_tolerance
            linearity = yield from measure_injection(job.model, point, layer, rows, unit, tolerance, signs, base)
            along = yield from _along(job, layer, offsets, unit, layout, base)
        with job.bar(job.level) as bar:
            samples = yield from self._way_down(job, offsets, bar)
        points = point.sample.expand(len(offsets), *point.sample.shape[1:])
        return Walked(
            samples=samples.view(*layout, *samples.shape[1:]),
            points=points.reshape(*layout, *points.shape[1:]),
            directions=rows,
            distances=job.distances,
            num_steps=1,
            layer=layer,
            linearity=linearity,
            along=along,
        )

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Clean samples from other additions along the same direction."""
        unit = float(features(job.model, job.point.sample, job.point, edit.layer).double().std())
        along = edit.directions[direction]
        if edit.composed:
            ways = edit.directions.new_tensor(edit.distances).view(-1, *[1] * along.ndim)
            along = (ways * edit.directions).sum(0)
        offsets = unit * along.new_tensor(distances).view(-1, *[1] * along.ndim) * along
        return answered([self._way_down(job, offsets, bar)])[0]

    def _way_down(self, job: Job, offsets: torch.Tensor, bar: tqdm) -> Asking[torch.Tensor]:
        def answer(x: torch.Tensor, offsets: torch.Tensor, under: Conditioning) -> Answer:
            point = replace(job.point, sample=x, conditioning=under)
            options = self.layer, offsets, self.inject, bar, self.asymmetric
            return (denoise_injected(job.model, point, job.schedule, job.level, *options),)

        point = job.point
        x = point.sample.expand(len(offsets), *point.sample.shape[1:])
        same = "injected down", self, job.level, job.schedule
        (samples,) = yield Question(answer, same, (x, offsets), point.conditioning, last=True)
        return samples


def _along(
    job: Job, layer: str, offsets: torch.Tensor, unit: float, layout: tuple[int, int], base: torch.Tensor
) -> Asking[Along]:
    """The one step of the features, and the change of the predicted noise against that of a short step."""
    size = offsets.flatten(1).double().norm(dim=1)
    part = (LENGTHS[0] * unit / size.clamp_min(1e-300)).clamp_max(1.0)
    point, x = job.point, job.point.sample.expand(len(offsets), *job.point.sample.shape[1:])

    short = part.view(-1, *[1] * (offsets.ndim - 1)).to(offsets) * offsets
    eps = yield from ask_injected(job.model, torch.cat([x, x]), point, layer, torch.cat([offsets, short]))
    change, tangent = (eps - base).flatten(1).double().chunk(2)
    found = compare(change, tangent / part[:, None])
    still = torch.zeros(layout, dtype=torch.float64, device="cpu")
    ratio, cosine = (values.cpu().view(1, *layout) for values in (found.norm_ratio, found.cosine))
    return Along(still, size.cpu().view(layout), (0,), ratio, cosine)
