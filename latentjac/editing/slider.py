"""Sliders: directions with a strength that means the same for every photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from latentjac.arguments import check_bool, check_kind, check_number, check_tensor
from latentjac.diffusion import Point, Schedule, place, point_files
from latentjac.edit_options import CHANGE, CHANGE_TOLERANCE
from latentjac.editing.applying import (
    Applied,
    Options,
    apply_to,
    linear_values,
    points_of,
    radius_of,
    values_each,
)
from latentjac.editing.arguments import unit_directions
from latentjac.editing.calibration import Calibrated, Curve, walk_to_changes
from latentjac.editing.carrying import AsIs, Carry
from latentjac.editing.edit import drawn, job_of, pixels_of, unmoved
from latentjac.editing.masks import Mask, MaskInput
from latentjac.editing.methods import Guidance, Method
from latentjac.editing.methods.method import check_method
from latentjac.editing.result import Edit, Walked
from latentjac.editing.slider_checks import check_change, check_fields, check_tolerance, saved_carry, saved_method
from latentjac.editing.slider_files import (
    FACTS,
    KIND,
    TENSORS,
    facts_of,
    fields_of,
    picture_of,
    preview_of,
    tensors_of,
)
from latentjac.models import Conditioning, ImageInput, Model
from latentjac.models.codec import stills
from latentjac.public import public
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis
from latentjac.solvers.identified import other_model

_GUIDANCE, _AS_IS = Guidance(), AsIs()
_MARKS = (-1.0, -0.5, 0.5, 1.0)  # values that a slider is calibrated at


@dataclass(frozen=True, repr=False, kw_only=True)
class Slider(Shaped):
    """A direction with a scale: at value 1 the picture changes by a stated amount, at -1 by as much the other way.

    Made by :meth:`make`, or read by :meth:`load`.

    Attributes:
        direction: Unit vector of the shape of a sample, or with ``HSpace`` of the features.
        change: RMS change of the decoded picture at value 1, in the range of pictures from 0 to 1, inside the mask
            where there is one; a value v stands for ``|v|`` times as much.
        tolerance: Largest error of a change, as a part of ``change``.
        values: Values that it was calibrated at, where it was made.
        distances: Distances there, in the unit of the method.
        changes: RMS changes that were measured at them.
        linear: Values between which the predicted noise is linear in the distance, to the tolerance of the method's
            ``linearity_tolerance``; at most as far as is probed, 2 in the unit of the method. None without diagnostics.
        radius: The same as a distance.
        cosines: Cosine between the changes of the picture at half and at full value, below zero and above; 1 where the
            picture goes straight on.
        leakage: RMS change outside the mask over that inside at each value; None without a mask.
        others: What the walks to -1 and 1 have of other directions: cosine of where they led with each; None where none
            were given.
        method: How it walks.
        carry: How the direction comes to other points, see :class:`latentjac.editing.Carry`.
        mask: Where the edit is meant to be, or None.
        features: What ``carry`` has to know of the direction.
        level: Of the point that it was made at.
        schedule: Of that point.
        conditioning: Of that point.
        preview: PNG file of the pictures at -1, -1/2, 0, 1/2 and 1, uint8 ``[n]``.
        metadata: Name and identity of the model, and where the slider was made.
        edit: The walk that it was calibrated by, with a picture at each of ``values``; None where it was read from a
            file.

    Example:
        >>> slider = latentjac.Slider.make(model, point, basis.v[0], change=0.01)
        >>> file = slider.save("slider.safetensors")
        >>> applied = latentjac.Slider.load(file, model).apply(model, "photo.jpg", [-1.0, 1.0])
        >>> [abs(change - 0.01) < 0.001 for change in applied.changes.tolist()]
        [True, True]
    """

    direction: torch.Tensor
    change: float
    tolerance: float
    values: tuple[float, ...]
    distances: tuple[float, ...]
    changes: tuple[float, ...]
    linear: tuple[float, float] | None
    radius: float | None
    cosines: tuple[float, ...]
    leakage: tuple[float, ...] | None = None
    others: tuple[tuple[float, ...], ...] | None = None
    method: Method = _GUIDANCE
    carry: Carry = _AS_IS
    mask: Mask | None = None
    features: torch.Tensor | None = None
    level: int
    schedule: Schedule
    conditioning: Conditioning = field(default_factory=Conditioning)
    preview: torch.Tensor = field(repr=False)
    metadata: dict[str, Any] = field(default_factory=dict)
    edit: Edit | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def t(self) -> float:
        """Timestep where it was made, as a fraction of T."""
        return self.schedule.timesteps[self.level] / self.schedule.num_train_timesteps

    @property
    def picture(self) -> Image.Image | None:
        """The pictures of the preview side by side; None where samples are no pictures."""
        return picture_of(self.preview)

    @classmethod
    @public
    @torch.no_grad()
    def make(
        cls,
        model: Model,
        point: Point,
        direction: torch.Tensor,
        *,
        change: float = CHANGE,
        method: Method = _GUIDANCE,
        carry: Carry = _AS_IS,
        mask: MaskInput | Mask | None = None,
        others: torch.Tensor | LocalBasis | None = None,
        tolerance: float = CHANGE_TOLERANCE,
        photo: ImageInput | None = None,
        progress: bool = False,
    ) -> Slider:
        """Calibrate a direction at a point.

        The walk itself finds the scale: it is repeated, to distances read from what it changed before, until the
        pictures at -1, -1/2, 1/2 and 1 have changed by what these values stand for; mostly three or four times.

        Args:
            model: The model.
            point: Where, from ``invert(...).at(t)``; one sample.
            direction: ``[C, H, W]``, such as ``basis.v[0]``, of any length; with ``HSpace`` of the features.
            change: RMS change of the decoded picture at value 1, at least 1e-6.
            method: How to walk: ``Guidance``, ``Linear``, ``Geodesic`` or ``HSpace``.
            carry: How the direction comes to other points: :class:`latentjac.editing.AsIs`, or
                :class:`latentjac.editing.Transported` by way of a layer's features.
            mask: Where the edit is meant to be, as of :func:`latentjac.edit`; changes are then those inside.
            others: Directions ``[m, C, H, W]``, or a basis, to say how much of them is in the walk.
            tolerance: Largest error of a change, as a part of ``change``, below 1/2.
            photo: The picture that was inverted, as of :func:`latentjac.edit`: ``preview`` and ``edit`` then show it at
                value 0, and what the way back misses of it at the others, too; nothing else depends on it.
            progress: Show progress bars.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If an argument is out of range or does not fit the model, or no distance changes the picture
                by so much.

        Example:
            ``slider = latentjac.Slider.make(model, point, basis.v[0])``
        """
        name = "make"
        place(name, model, point)
        method, carry = saved_method(name, check_method(name, method)), saved_carry(name, carry)
        change = check_change(name, change)
        tolerance = check_tolerance(name, tolerance)
        if len(point.sample) != 1:
            raise ValueError(f"{name}: point must hold one sample, got {len(point.sample)}")
        direction = _one_direction(name, direction, method, point)
        rows = _other_directions(name, others, method, point)
        job = job_of(model, point, direction, 0.0, method, mask, False, check_bool(name, "progress", progress))
        pixels = None if photo is None else pixels_of(name, model, photo)
        (still,) = unmoved([job])
        features = carry.prepare(model, point, direction)
        (found,) = walk_to_changes(name, method, [job], [_MARKS], change, [still.picture], [None], tolerance)
        _check_reached(found, change, tolerance)
        walked, pictures, changes = found.walked, found.pictures, found.pictures - still.picture
        edit = drawn(job, method, walked, found.status, pictures, pixels, still)
        shown = torch.stack([*pictures[:2], still.picture, *pictures[2:]])
        if edit.residual is not None:
            shown = (shown + edit.residual).clamp(0, 1)
        return cls(
            direction=direction,
            change=change,
            tolerance=tolerance,
            values=_MARKS,
            distances=walked.distances,
            changes=tuple(found.changes.tolist()),
            linear=linear_values(found, change),
            radius=radius_of(walked),
            cosines=(_cosine(changes[1], changes[0]), _cosine(changes[2], changes[3])),
            leakage=None if edit.leakage is None else tuple(edit.leakage[0].tolist()),
            others=None if rows is None else _shares(walked, point, rows),
            method=method,
            carry=carry,
            mask=job.mask,
            features=features,
            level=point.level,
            schedule=point.schedule,
            conditioning=point.conditioning,
            preview=preview_of(stills(model, shown)),
            metadata={
                "model": model.name,
                "model_identity": model.identity(),
                "timestep": point.timestep,
                "t": point.t,
                "num_inference_steps": point.num_inference_steps,
            },
            edit=edit,
        )

    @public
    @torch.no_grad()
    def apply(
        self,
        model: Model,
        point: Point | Sequence[Point] | ImageInput | Sequence[ImageInput],
        values: float | Sequence[float] | Sequence[Sequence[float]] = 1.0,
        *,
        calibrate: bool = True,
        carry: Carry | None = None,
        mask: MaskInput | Mask | Sequence[MaskInput | Mask | None] | None = None,
        photo: ImageInput | Sequence[ImageInput | None] | None = None,
        progress: bool = False,
    ) -> Applied | list[Applied]:
        """Edit photos, or points of their trajectories, side by side.

        Args:
            model: The model that the slider was made with.
            point: A point of one sample, or several; or a photo, or several, as :func:`latentjac.invert` takes them.
                Photos are inverted as the one was that the slider was made with, under the same conditioning.
            values: In [-1, 1]: one, or several for each point, or a list of such for each of several points.
            calibrate: Find the distances of every photo anew, so that a value changes all by the same amount; this
                walks two or three times. Without, distances are those of the slider, and changes are what they are.
            carry: How the direction comes to the points; that of the slider by default.
            mask: Another one than that of the slider, or a list with one, or None for none, for each of several points.
            photo: The picture of each point, or None for some; see :func:`latentjac.edit`. Photos need none.
            progress: Show progress bars.

        Returns:
            What came of it; a list where points or photos came in a list.

        Raises:
            KeyboardInterrupt: On Ctrl-C, also while a basis is computed.
            TypeError: If an argument has a wrong type.
            ValueError: If an argument is out of range, the model is another one, or a point does not fit it.

        Example:
            ``left, right = slider.apply(model, ["left.jpg", "right.jpg"], [-1.0, 0.5, 1.0])``
        """
        name = "apply"
        check_kind(name, "model", model, Model, "a latentjac.Model")
        self.check_model(name, model)
        chosen = saved_carry(name, self.carry if carry is None else carry)
        options = Options(
            check_bool(name, "calibrate", calibrate), chosen, self.mask if mask is None else mask,
            check_bool(name, "progress", progress),
        )  # fmt: skip
        several = isinstance(point, (list, tuple))
        given = list(point) if isinstance(point, (list, tuple)) else [point]
        points, photos = points_of(model, self, given, photo, options.progress)
        applied = apply_to(model, self, points, photos, values_each(values, len(points)), options)
        return applied if several else applied[0]

    def check_model(self, function: str, model: Model) -> None:
        """Raise unless a model is the one that the slider was made with."""
        other = other_model(self.metadata, model)
        if other is not None:
            raise ValueError(
                f"{function}: model must be {other}, which the slider was made with, got {model.name!r} "
                f"({model.identity()})"
            )

    @public
    def save(self, path: str | Path) -> Path:
        """Write one ``.safetensors`` file, with the preview; it appears whole or not at all.

        Raises:
            TypeError: If path is no path.
            ValueError: If its name has another ending.
            FileNotFoundError: If its folder is missing.
            FileExistsError: If there is a file that is no slider.
        """
        return point_files.write(path, KIND, tensors_of(self), self.conditioning, facts_of(self))

    @classmethod
    @public
    def load(cls, path: str | Path, model: Model | None = None) -> Slider:
        """Read a file that :meth:`save` wrote; tensors come to the CPU.

        Args:
            path: File name.
            model: The model that it is going to be used with, to be checked.

        Raises:
            TypeError: If path is no path, or model no model.
            FileNotFoundError: If there is no such file.
            FileError: If it is not a file of a slider, or is damaged.
            ValueError: If it was made with another model; the message names both.
        """
        check_kind("load", "model", model, Model, "a latentjac.Model", optional=True)
        slider = point_files.read(
            path,
            KIND,
            TENSORS,
            FACTS,
            lambda t, c, s, f: cls(**fields_of(t, f), schedule=s, conditioning=c),
        )
        if model is not None:
            slider.check_model("load", model)
        return slider

    def distance_for(self, value: float) -> float:
        """The distance that a value in [-1, 1] stands for where the slider was made.

        Raises:
            TypeError: If value is not a number.
            ValueError: If it is not in [-1, 1].
        """
        value = check_number("distance_for", "value", value, -1, 1, least=True, most=True)
        side = Curve(
            (abs(distance), change)
            for known, distance, change in zip(self.values, self.distances, self.changes, strict=True)
            if known * value > 0
        )
        return math.copysign(side.distance_for(abs(value) * self.change), value) if value else 0.0


def _one_direction(function: str, direction: Any, method: Method, point: Point) -> torch.Tensor:
    """A direction as a unit vector; of features in the shape it came in."""
    direction = check_tensor(function, "direction", direction)
    like = direction[None] if method.in_features else point.sample
    if direction.shape != like.shape[1:]:
        raise ValueError(
            f"{function}: direction must have shape {list(like.shape[1:])} as a sample has, got {list(direction.shape)}"
        )
    return unit_directions(direction, like, function, "direction")[0]


def _other_directions(function: str, others: Any, method: Method, point: Point) -> torch.Tensor | None:
    if others is None:
        return None
    if method.in_features:
        raise ValueError(f"{function}: others must be left out with HSpace, where the sample stays, got some")
    rows = check_tensor(function, "others", others.v if isinstance(others, LocalBasis) else others)
    return unit_directions(rows, point.sample, function, "others")


def _check_reached(found: Calibrated, change: float, tolerance: float) -> None:
    """Raise where a direction does not change the picture as much as a slider has to."""
    rows = zip(_MARKS, found.walked.distances, found.changes.tolist(), found.reached, strict=True)
    for value, distance, measured, fine in rows:
        if not fine:
            raise ValueError(
                f"make: change must be one that the direction reaches both ways to the tolerance {tolerance:g}, got "
                f"{change:g}: at value {value:g} the picture changes by {measured:.3g} at distance {distance:.3g}"
            )


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def _shares(walked: Walked, point: Point, others: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    """Cosines of where walks to both ends led with other directions, a row for each end."""
    led = (walked.points[0, [0, -1]] - point.sample).double().flatten(1)
    cosines = (led / led.norm(dim=1, keepdim=True)) @ others.double().flatten(1).mT
    return tuple(tuple(row) for row in cosines.tolist())
