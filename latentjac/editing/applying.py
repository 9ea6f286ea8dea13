"""Sliders applied to photos and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from latentjac.arguments import check_number, check_sequence, is_number
from latentjac.diffusion import Point, Schedule, invert, place
from latentjac.diffusion.grids import NAMED_GRIDS, Grid
from latentjac.editing.arguments import one_each
from latentjac.editing.calibration import Calibrated, walk_to_changes
from latentjac.editing.carrying import Carry
from latentjac.editing.edit import drawn, job_of, pixels_of, unmoved
from latentjac.editing.masks import Mask, MaskInput
from latentjac.editing.result import Edit, Walked
from latentjac.models import Model
from latentjac.public import warn
from latentjac.shaped import Shaped
from latentjac.solvers.building import building

if TYPE_CHECKING:
    from latentjac.editing.slider import Slider

_NAME = "apply"


@dataclass(frozen=True, repr=False, kw_only=True)
class Applied(Shaped):
    """What a slider made of one photo or point.

    Attributes:
        edit: The edit, with a picture for each value; ``edit.distances`` are the scale that was found for this photo.
        values: The values.
        changes: Measured RMS change of the picture at each, float64 ``[values]``.
        calibrated: Whether each change is the stated one, ``|value|`` times that of the slider, to the tolerance.
        linear: Values between which the predicted noise is linear in the distance, see :attr:`Slider.linear`; None
            without diagnostics.
        retained: What of the direction arrived, see :class:`latentjac.editing.Transported`; None with ``AsIs``.
    """

    edit: Edit
    values: tuple[float, ...]
    changes: torch.Tensor
    calibrated: tuple[bool, ...]
    linear: tuple[float, float] | None = None
    retained: float | None = None

    @property
    def images(self) -> list[Image.Image]:
        """A picture for each value; of videos the middle frame, and empty where samples are no pictures."""
        return self.edit.images


@dataclass(frozen=True)
class Options:
    """Options of :meth:`Slider.apply`, checked."""

    calibrate: bool
    carry: Carry
    mask: MaskInput | Mask | Sequence[MaskInput | Mask | None] | None
    progress: bool


def apply_to(
    model: Model,
    slider: Slider,
    points: Sequence[Point],
    photos: Sequence[Any],
    values: Sequence[tuple[float, ...]],
    options: Options,
) -> list[Applied]:
    """Edit points side by side; each with its photo, or None, and its values."""
    with building(_NAME):
        masks = one_each(_NAME, "mask", options.mask, len(points))
        carried = options.carry.carry(model, slider, points)
        jobs = [
            job_of(model, at, brought.direction, 0.0, slider.method, mask, False, options.progress and not i)
            for i, (at, brought, mask) in enumerate(zip(points, carried, masks, strict=True))
        ]
        pixels = [None if photo is None else pixels_of(_NAME, model, photo) for photo in photos]
        unchanged = unmoved(jobs)
        guesses = [tuple(slider.distance_for(value) for value in row) for row in values]
        found = walk_to_changes(
            _NAME, slider.method, jobs, values, slider.change, [each.picture for each in unchanged], guesses,
            slider.tolerance, repeat=options.calibrate,
        )  # fmt: skip
    applied = []
    for i, (job, each) in enumerate(zip(jobs, found, strict=True)):
        edit = drawn(job, slider.method, each.walked, each.status, each.pictures, pixels[i], unchanged[i])
        linear = linear_values(each, slider.change)
        applied.append(
            Applied(
                edit=edit,
                values=values[i],
                changes=each.changes,
                calibrated=each.reached,
                linear=linear,
                retained=carried[i].retained,
            )
        )
    if options.calibrate:
        warn_of(applied, slider.change)
    return applied


def points_of(
    model: Model, slider: Slider, given: list[Any], photo: Any, progress: bool
) -> tuple[list[Point], list[Any]]:
    """Points, each with its photo or None, of points or of photos."""
    if not given:
        raise ValueError(f"{_NAME}: point must be a Point or a photo, or several, got an empty list")
    photos = list(photo) if isinstance(photo, (list, tuple)) else [photo] * len(given)
    if len(photos) != len(given):
        raise ValueError(f"{_NAME}: photo must be one for each point ({len(given)}), got {len(photos)}")
    if not any(isinstance(entry, Point) for entry in given):
        given, photos = _inverted(model, slider, given, progress), given
    for entry in given:
        place(_NAME, model, entry)
        if len(entry.sample) != 1:
            raise ValueError(f"{_NAME}: point must hold one sample, got {len(entry.sample)}; point.split()")
    return given, photos


def _inverted(model: Model, slider: Slider, photos: list[Any], progress: bool) -> list[Point]:
    """Points of photos, inverted as the one was that the slider was made with."""
    options = inversion_to(model, slider.schedule)
    path = invert(
        model,
        model.codec.encode(photos, subject=f"{_NAME}: point"),
        conditioning=slider.conditioning.to(model.device),
        input_type="latent",
        progress=progress,
        **options,
    )
    return path.at(timestep=slider.schedule.timesteps[slider.level]).split()


def inversion_to(model: Model, own: Schedule) -> dict[str, Any]:
    """Options of an inversion to the levels of a schedule."""
    grid = grid_of(model, own)
    return {"num_inference_steps": own.num_inference_steps, "t": own.until, "grid": grid, "solver": own.solver}


def grid_of(model: Model, own: Schedule) -> Grid:
    """The grid that has the levels of a schedule."""
    for grid in NAMED_GRIDS.values():
        try:
            made = Schedule.from_scheduler(
                model.scheduler, own.num_inference_steps, **model.placing, grid=grid, solver=own.solver, t=own.until
            )
        except ValueError:  # a grid that has no such levels
            continue
        if made == own:
            return grid
    raise ValueError(f"{_NAME}: point must be a Point with a slider made on levels of one's own, got a photo")


def values_each(values: Any, count: int) -> list[tuple[float, ...]]:
    """Values of every point, in [-1, 1]."""
    name = _NAME
    rows = [values] if is_number(values) else check_sequence(name, "values", values, "numbers")
    nested = [not is_number(row) for row in rows]
    if any(nested):
        if not all(nested) or len(rows) != count:
            raise ValueError(f"{name}: values must be numbers, or a list of them for each of {count} points")
        each = [check_sequence(name, "values", row, "numbers") for row in rows]
    else:
        each = [rows] * count
    return [tuple(check_number(name, "values", v, -1, 1, least=True, most=True) for v in row) for row in each]


def warn_of(applied: list[Applied], change: float) -> None:
    """Warn of pictures whose change is not as stated."""
    for i, each in enumerate(applied):
        missed = missed_change(each, change)
        if missed is not None:
            warn(f"apply: values of point {i} do not all have their change: {missed}")


def missed_change(applied: Applied, change: float) -> str | None:
    """What a value changed instead of what is stated, in words, of the first one that did not; None if there is none.

    Args:
        applied: What a slider made.
        change: What a value of 1 stands for.
    """
    rows = zip(applied.values, applied.changes.tolist(), applied.calibrated, strict=True)
    missed = next(((value, measured) for value, measured, fine in rows if not fine), None)
    if missed is None:
        return None
    value, measured = missed
    return f"{value:g} changes the picture by {measured:.3g} instead of {abs(value) * change:.3g}"


def radius_of(walked: Walked) -> float | None:
    """How far the network is linear along the direction of a walk, as a distance."""
    return None if walked.linearity is None else walked.linearity[0].radius


def linear_values(found: Calibrated, change: float) -> tuple[float, float] | None:
    """Values at the ends of the range in which the network is linear."""
    radius = radius_of(found.walked)
    if radius is None:
        return None
    low, high = (min(1.0, curve.change_at(radius) / change) for curve in found.curves)
    return -low, high
