"""Edits of an image along directions at one point of its trajectory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentjac.arguments import check_bool, check_tensor
from latentjac.diffusion import Point, denoise, place
from latentjac.edit_options import DISTANCE
from latentjac.editing.arguments import check_distances
from latentjac.editing.diagnostics import leakage
from latentjac.editing.masks import Mask, MaskInput, mask_for
from latentjac.editing.methods.guidance import Guidance
from latentjac.editing.methods.method import Job, Method, check_method
from latentjac.editing.result import Edit, Walked
from latentjac.models import ImageInput, Model, PixelCodec
from latentjac.models.codec import NoCodec, decoded, stills
from latentjac.models.latents import LatentCodec
from latentjac.public import public
from latentjac.solvers import Status
from latentjac.solvers.building import building

_GUIDANCE = Guidance()


@public
@torch.no_grad()
def edit(
    model: Model,
    point: Point,
    directions: torch.Tensor,
    distance: float | Sequence[float] = DISTANCE,
    *,
    method: Method = _GUIDANCE,
    mask: MaskInput | Mask | None = None,
    compose: bool = False,
    photo: ImageInput | None = None,
    progress: bool = False,
) -> Edit:
    """Move a noisy sample along directions, then make images as the schedule's solver does.

    A distance is the way the noisy sample travels, in standard deviations of the noise at the point. Noise itself
    varies by 1 along any direction there, so a distance means the same for every image and timestep. With ``HSpace`` it
    is the way of the features, in standard deviations of their entries at the point. docs/editing.md has the formulas.

    Args:
        model: The model.
        point: Where to edit, from ``invert(...).at(t)``; one sample.
        directions: ``[C, H, W]`` or ``[q, C, H, W]``, such as ``basis.v``, or of the shape of other samples; any
            length, used as unit directions.
            With ``HSpace``, of the shape of the layer's output, such as ``basis.u``.
        distance: Signed distance, or several, of less than 10,000; 0 gives the reconstruction.
        method: How, with the options of this way alone: :class:`latentjac.editing.Guidance` (differences of the
            predicted noise), :class:`~latentjac.editing.Linear` (straight on), :class:`~latentjac.editing.Geodesic`
            (straight on in the geometry of a layer), :class:`~latentjac.editing.HSpace` (added to the output of a
            layer), or another :class:`~latentjac.editing.Method`.
        mask: Where the edit is meant to be: bool tensor or array ``[H, W]`` at sample size, or a PIL image of that
            size (bright is inside); of videos also ``[F, H, W]``, else it is that of each frame. No step takes a
            direction to which the posterior mean outside listens most, and ``leakage`` is measured; with ``HSpace`` it
            is only measured. A :class:`latentjac.editing.Mask` also says how many such directions.
        compose: Go along all directions at once, each with its own distance, instead of along each alone.
        photo: The picture that was inverted: what the way back from the point misses of it is added to every picture,
            so that distance 0 is the photo. It costs one more way back; ``samples`` stay as they are.
        progress: Show a progress bar.

    Returns:
        Images, samples and diagnostics.

    Raises:
        KeyboardInterrupt: On Ctrl-C, also while a basis is computed.
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or does not fit the model or the method.
    """
    schedule, level = place("edit", model, point)
    if len(point.sample) != 1:
        raise ValueError(f"edit: point must hold one sample, got {len(point.sample)}")
    directions = check_tensor("edit", "directions", directions)
    distances = check_distances(distance)
    method = check_method("edit", method)
    method.layer_in(model)
    checked = mask_for("edit", mask, model)
    if checked is not None and checked.has_options and not method.projects:
        raise ValueError(f"edit: mask must be without options with method={type(method).__name__}(...), got {checked}")
    compose, progress = check_bool("edit", "compose", compose), check_bool("edit", "progress", progress)
    pixels = None if photo is None else _pixels(model, photo)
    job = Job(model, point, schedule, level, directions, distances, compose, checked, progress)
    with building("edit") as built:
        walked = method.walk(job)
    return _drawn(job, method, walked, built.status, pixels)


def _pixels(model: Model, photo: ImageInput) -> torch.Tensor:
    """The photo ``[C, H, W]`` in [0, 1], as the model's pictures are."""
    subject = "edit: photo"
    if isinstance(model.codec, NoCodec):
        raise ValueError(f"{subject} must be left out with a model that has no codec, got {type(photo).__name__}")
    if not isinstance(model.codec, (PixelCodec, LatentCodec)):
        raise ValueError(f"{subject} must be left out with a model of no pictures, got {type(photo).__name__}")
    plain = PixelCodec(model.codec.size, model.codec.channels)
    pixels = plain.decode(plain.encode(photo, subject=subject))
    if len(pixels) != 1:
        raise ValueError(f"{subject} must be one picture, got {len(pixels)}")
    return pixels[0]


def _drawn(job: Job, method: Method, walked: Walked, status: Status | None, photo: torch.Tensor | None) -> Edit:
    """Walks with their pictures, and with a mask how much of the change lies outside."""
    model, point, leaked, residual = job.model, job.point, None, None
    pictures = decoded(model, walked.samples.flatten(0, 1))
    if job.mask is not None or photo is not None:
        unchanged = denoise(model, point.sample, job.schedule, job.level, point.conditioning)
        reference = decoded(model, unchanged)[0]
        if job.mask is not None:
            leaked = leakage(pictures, reference, job.mask.pixels).view(walked.samples.shape[:2])
        if photo is not None:
            residual = photo - reference
            pictures = (pictures + residual).clamp(0, 1)
    return Edit(
        **vars(walked), images=stills(model, pictures), method=method, leakage=leaked, residual=residual, status=status
    )
