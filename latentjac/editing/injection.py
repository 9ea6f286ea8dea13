"""Injection: denoising while a direction is added to the features of a layer."""

from __future__ import annotations

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, Schedule, predict
from latentjac.diffusion.denoise import MAX_BATCH, last, predictor
from latentjac.diffusion.loops import down
from latentjac.editing.questions import Answer, Asking, Question
from latentjac.geometry.linearity import Linearity, judge_quotients, probe_steps
from latentjac.models import Conditioning, Model, Prediction
from latentjac.models.feature_maps import as_returned
from latentjac.models.layers import injected


def predict_injected(
    model: Model, x: torch.Tensor, point: Point, timestep: int | float, layer: str, offsets: torch.Tensor
) -> torch.Tensor:
    """Predicted noise of samples ``[w, C, H, W]`` with ``offsets`` ``[w, *features]`` added to a layer's output."""
    return _injected(model, x, timestep, point.conditioning, layer, offsets).eps


def ask_injected(
    model: Model, x: torch.Tensor, point: Point, layer: str, offsets: torch.Tensor
) -> Asking[torch.Tensor]:
    """The same at the timestep of a point, answered together with others."""

    def answer(x: torch.Tensor, offsets: torch.Tensor, under: Conditioning) -> Answer:
        return (_injected(model, x, point.timestep, under, layer, offsets).eps,)

    (eps,) = yield Question(answer, ("injected", point.timestep, layer), (x, offsets), point.conditioning)
    return eps


def _injected(
    model: Model,
    x: torch.Tensor,
    timestep: int | float,
    conditioning: Conditioning,
    layer: str,
    offsets: torch.Tensor,
) -> Prediction:
    """The prediction, too; with guidance the offsets are added under the prompt and under the negative prompt alike.

    Kwon et al. (2023) inject into the network, whatever its conditioning.
    """
    name = model.resolve_layer(layer)
    rows = conditioning.split(MAX_BATCH, len(x))
    parts = []
    for part, offset, c in zip(x.split(MAX_BATCH), offsets.split(MAX_BATCH), rows, strict=True):
        with injected(model.network, name, as_returned(model, name, offset), model.picture_in(name)):
            parts.append(predict(model, part, timestep, c))
    return Prediction(*(torch.cat(values) for values in zip(*parts, strict=True)))


def denoise_injected(
    model: Model,
    point: Point,
    schedule: Schedule,
    level: int,
    layer: str,
    offsets: torch.Tensor,
    inject: str,
    bar: tqdm,
    asymmetric: bool = False,
) -> torch.Tensor:
    """Clean samples ``[w, C, H, W]`` from noisy ones, each with its own offset to the features.

    With guidance the offsets are added under the prompt and under the negative prompt alike.

    Args:
        model: The model.
        point: The noisy samples, as many as offsets.
        schedule: Their levels.
        level: Their level.
        layer: Where the offsets are added.
        offsets: ``[w, *features]``.
        inject: ``"below"`` adds them in every step from the point to the image, ``"point"`` in the first one.
        bar: Progress bar to update once a step.
        asymmetric: Go towards the clean sample predicted with the offsets along the noise predicted without (Kwon et
            al. 2023, equation 6); twice as many evaluations, in the same batches.
    """
    under = point.conditioning
    plain, twice = predictor(model, schedule, under), Conditioning._joined([under] * 2, [len(offsets)] * 2)

    def predict_at(x: torch.Tensor, at: int) -> Prediction:
        if inject == "point" and at < level:
            return plain(x, at)
        rows, added, beside = x, offsets, under
        if asymmetric:
            rows, added, beside = torch.cat([x, x]), torch.cat([offsets, torch.zeros_like(offsets)]), twice
        found = _injected(model, rows, schedule.timesteps[at], beside, layer, added)
        # Without the addition last; the same prediction if there is only one.
        return Prediction(found.x0[: len(x)], found.eps[-len(x) :])

    return last(down(point.sample, schedule, level, predict_at, bar=bar))


def measure_injection(
    model: Model,
    point: Point,
    layer: str,
    directions: torch.Tensor,
    unit: float,
    tolerance: float,
    sides: tuple[float, ...],
    base: torch.Tensor,
) -> Asking[tuple[Linearity, ...]]:
    """As :func:`latentjac.geometry.measure_linearity`, of directions ``[q, *features]`` added to a layer's output.

    Lengths are in ``unit``; ``base`` is the noise predicted without an addition, and sides are the signs measured.
    """
    steps = probe_steps(unit, directions, sides)
    offsets = (steps * directions[:, None, None]).flatten(0, 2)
    copies = point.sample.expand(len(offsets), *point.sample.shape[1:])
    eps = yield from ask_injected(model, copies, point, layer, offsets)
    return judge_quotients(eps.view(len(directions), *steps.shape[1:3], *base.shape[1:]), base, steps, tolerance)
