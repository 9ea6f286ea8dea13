"""Edits of an image along directions at one point of its trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import torch

from latentjac.arguments import check_bool, check_tensor
from latentjac.diffusion import Point, place
from latentjac.edit_options import DISTANCE
from latentjac.editing.arguments import check_distances, one_each
from latentjac.editing.diagnostics import leakage
from latentjac.editing.masks import Mask, MaskInput, mask_for
from latentjac.editing.methods.guidance import Guidance
from latentjac.editing.methods.method import Job, Method, check_method
from latentjac.editing.predicted import Predicted
from latentjac.editing.questions import Answer, Asking, Question, answered, asking
from latentjac.editing.result import Edit, Walked
from latentjac.editing.ways_down import way_down
from latentjac.models import ImageInput, Model, PixelCodec
from latentjac.models.codec import NoCodec, decoded, stills
from latentjac.models.latents import LatentCodec
from latentjac.public import public
from latentjac.solvers import Status
from latentjac.solvers.building import building
from latentjac.solvers.outcome import worst

_GUIDANCE = Guidance()


Distances = float | Sequence[float]


@overload
def edit(
    model: Model,
    point: Point,
    directions: torch.Tensor,
    distance: Distances = DISTANCE,
    *,
    method: Method = _GUIDANCE,
    mask: MaskInput | Mask | None = None,
    compose: bool = False,
    photo: ImageInput | None = None,
    progress: bool = False,
) -> Edit: ...


@overload
def edit(
    model: Model,
    point: Sequence[Point],
    directions: torch.Tensor | Sequence[torch.Tensor],
    distance: Distances | Sequence[Distances] = DISTANCE,
    *,
    method: Method = _GUIDANCE,
    mask: MaskInput | Mask | Sequence[MaskInput | Mask | None] | None = None,
    compose: bool = False,
    photo: ImageInput | Sequence[ImageInput] | None = None,
    progress: bool = False,
) -> list[Edit]: ...


@public
@torch.no_grad()
def edit(
    model: Model,
    point: Point | Sequence[Point],
    directions: torch.Tensor | Sequence[torch.Tensor],
    distance: Distances | Sequence[Distances] = DISTANCE,
    *,
    method: Method = _GUIDANCE,
    mask: MaskInput | Mask | Sequence[MaskInput | Mask | None] | None = None,
    compose: bool = False,
    photo: ImageInput | Sequence[ImageInput] | None = None,
    progress: bool = False,
) -> Edit | list[Edit]:
    """Move a noisy sample along directions, then make images as the schedule's solver does.

    A distance is the way the noisy sample travels, in standard deviations of the noise at the point. Noise itself
    varies by 1 along any direction there, so a distance means the same for every image and timestep. With ``HSpace`` it
    is the way of the features, in standard deviations of their entries at the point. docs/editing.md has the formulas.

    Several points are edited side by side, each as it would be alone: what their walks ask of the network at the same
    time goes through it in one batch, and a walk that is done leaves it. Directions, distance, mask and photo are then
    those of all, or a list has one entry for each point.

    Args:
        model: The model.
        point: Where to edit, from ``invert(...).at(t)``; one sample. Or several such points, each with its own
            conditioning, such as ``invert(...).at(t).split()``.
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
        progress: Show a progress bar; with several points, that of the first.

    Returns:
        Images, samples and diagnostics; a list of them, one a point, where points came in a list.

    Raises:
        KeyboardInterrupt: On Ctrl-C, also while a basis is computed.
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or does not fit the model or the method.

    Example:
        >>> edit = latentjac.edit(model, point, basis.v, [-1.0, 1.0])
        >>> len(edit.images)  # two directions, two distances
        4
    """
    method, several = check_method("edit", method), isinstance(point, (list, tuple))
    compose, progress = check_bool("edit", "compose", compose), check_bool("edit", "progress", progress)
    points = _points(model, point)
    given = (directions, distance, mask, photo)
    each = _each(points, *given) if several else [given]
    jobs: list[Job] = []
    photos: list[torch.Tensor | None] = []
    for at, (rows, ways, inside, picture) in zip(points, each, strict=True):
        first = progress and not jobs
        jobs.append(job_of(model, at, rows, ways, method, inside, compose, first))
        photos.append(None if picture is None else pixels_of("edit", model, picture))
    found = walked("edit", method, jobs)
    compared = [i for i, job in enumerate(jobs) if job.mask is not None or photos[i] is not None]
    unchanged = dict(zip(compared, unmoved([jobs[i] for i in compared]), strict=True))
    edits = []
    for i, (job, (way, status)) in enumerate(zip(jobs, found, strict=True)):
        pictures = decoded(model, way.samples.flatten(0, 1))
        edits.append(drawn(job, method, way, status, pictures, photos[i], unchanged.get(i)))
    return edits if several else edits[0]


def walked(function: str, method: Method, jobs: Sequence[Job]) -> list[tuple[Walked, Status | None]]:
    """All walks side by side, each with how the bases ended that it is built on; None if it is built on none."""
    statuses: list[list[Status]] = [[] for _ in jobs]
    with building(function):
        ways = answered([_noting(_walk(method, job), found) for job, found in zip(jobs, statuses, strict=True)])
    return [(way, worst(found) if found else None) for way, found in zip(ways, statuses, strict=True)]


class Unmoved(NamedTuple):
    """What a point leads to without an edit: a picture ``[C, H, W]`` of :func:`decoded`, and predictions on the way."""

    picture: torch.Tensor
    predicted: Predicted | None


def unmoved(jobs: Sequence[Job]) -> list[Unmoved]:
    """What the point of each job leads to without an edit."""
    ways = answered([way_down(job, job.point.sample) for job in jobs])
    return [Unmoved(decoded(job.model, clean)[0], way) for job, (clean, way) in zip(jobs, ways, strict=True)]


def _points(model: Model, point: Any) -> list[Point]:
    """The points, if each holds one sample that fits the model."""
    points = list(point) if isinstance(point, (list, tuple)) else [point]
    if not points:
        raise ValueError("edit: point must be a Point or several, got an empty list")
    for each in points:
        place("edit", model, each)
        if len(each.sample) != 1:
            raise ValueError(f"edit: point must hold one sample, got {len(each.sample)}; point.split() has one of each")
    return points


def _each(points: Sequence[Point], directions: Any, distance: Any, mask: Any, photo: Any) -> list[tuple[Any, ...]]:
    """What was given, for each of several points."""
    if isinstance(directions, torch.Tensor) and directions.ndim == points[0].sample.ndim + 1:
        directions = directions.unbind()
    nested = isinstance(distance, (list, tuple)) and any(isinstance(d, (list, tuple)) for d in distance)
    found = {
        "directions": directions,
        "distance": distance if nested else [distance] * len(points),
        "mask": mask,
        "photo": photo,
    }
    columns = [one_each("edit", name, given, len(points)) for name, given in found.items()]
    return list(zip(*columns, strict=True))


def job_of(
    model: Model,
    point: Point,
    directions: Any,
    distance: Any,
    method: Method,
    mask: MaskInput | Mask | None,
    compose: bool,
    progress: bool,
) -> Job:
    """The edit of one point, with checked arguments."""
    schedule, level = place("edit", model, point)
    directions = check_tensor("edit", "directions", directions)
    distances = check_distances(distance)
    method.layer_in(model)
    checked = mask_for("edit", mask, model)
    if checked is not None and checked.has_options and not method.projects:
        raise ValueError(f"edit: mask must be without options with method={type(method).__name__}(...), got {checked}")
    return Job(model, point, schedule, level, directions, distances, compose, checked, progress)


def _walk(method: Method, job: Job) -> Asking[Walked]:
    return (yield from asking(method.walk(job)))


def _noting(walk: Asking[Walked], statuses: list[Status]) -> Asking[Walked]:
    """A walk that notes how the bases ended that it is built on, but not those of others."""

    def go_on(answer: Answer | None) -> Question:
        with building("edit") as built:
            try:
                return walk.send(answer)  # type: ignore[arg-type]
            finally:
                statuses.extend(built.statuses)

    answer: Answer | None = None
    while True:
        try:
            question = go_on(answer)
        except StopIteration as end:
            walked: Walked = end.value
            return walked
        answer = yield question


def pixels_of(function: str, model: Model, photo: ImageInput) -> torch.Tensor:
    """The photo ``[C, H, W]`` in [0, 1], as the model's pictures are."""
    subject = f"{function}: photo"
    if isinstance(model.codec, NoCodec):
        raise ValueError(f"{subject} must be left out with a model that has no codec, got {type(photo).__name__}")
    if not isinstance(model.codec, (PixelCodec, LatentCodec)):
        raise ValueError(f"{subject} must be left out with a model of no pictures, got {type(photo).__name__}")
    plain = PixelCodec(model.codec.size, model.codec.channels)
    pixels = plain.decode(plain.encode(photo, subject=subject))
    if len(pixels) != 1:
        raise ValueError(f"{subject} must be one picture, got {len(pixels)}")
    return pixels[0]


def drawn(
    job: Job,
    method: Method,
    walked: Walked,
    status: Status | None,
    pictures: torch.Tensor,
    photo: torch.Tensor | None,
    unchanged: Unmoved | None,
) -> Edit:
    """Walks with their pictures, and with a mask how much of the change lies outside.

    Args:
        job: What was to be done.
        method: How.
        walked: What was done.
        status: Of the bases on the way.
        pictures: What the samples are decoded to.
        photo: What the picture without an edit ought to be, or None.
        unchanged: What it is; needed with a mask or a photo.
    """
    model, leaked, residual = job.model, None, None
    if unchanged is not None and job.mask is not None:
        leaked = leakage(pictures, unchanged.picture, job.mask.pixels).view(walked.samples.shape[:2])
    if unchanged is not None and photo is not None:
        residual = photo - unchanged.picture
        pictures = (pictures + residual).clamp(0, 1)
    return Edit(
        **vars(walked),
        images=stills(model, pictures),
        method=method,
        leakage=leaked,
        residual=residual,
        status=status,
        unmoved=None if unchanged is None else unchanged.predicted,
    )
