"""Pictures along one direction at a point, computed once and made longer on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

import latentjac
from latentjac.edit_options import FARTHEST

if TYPE_CHECKING:
    from latentjac.editing import Method
    from latentjac.editing.masks import Mask

FRAMES = 9


@dataclass(frozen=True)
class Line:
    """A direction and the pictures along it.

    Attributes:
        title: Name of the direction.
        note: Stands beside it, such as its singular value.
        direction: Unit direction, of the shape of a sample.
        distances: Ascending, in the unit of the method.
        images: A picture for each.
        walker: What drew them.
        linear_up_to: How far from 0 the network is linear; None where that was not measured.
        leakage: With a mask, for each picture the change outside over the change inside.
        photo_psnr: PSNR of the way back from the point without an edit, in dB.
        values: Of a saved slider, for each picture its value; None for other directions.
    """

    title: str
    note: str
    direction: torch.Tensor = field(repr=False)
    distances: tuple[float, ...]
    images: tuple[Image.Image, ...] = field(repr=False)
    walker: Walker = field(repr=False)
    linear_up_to: float | None
    leakage: tuple[float, ...] | None
    photo_psnr: float
    values: tuple[float, ...] | None = None

    @property
    def marks(self) -> tuple[float, ...]:
        """What its slider shows: values of a saved slider, or distances."""
        return self.distances if self.values is None else self.values

    def distance_at(self, mark: float) -> float:
        """The distance of the picture at a mark of its slider; the nearest there is."""
        index = min(range(len(self.marks)), key=lambda i: abs(self.marks[i] - mark))
        return self.distances[index]

    @property
    def end(self) -> float:
        """Its farthest distance."""
        return max(map(abs, self.distances))


@dataclass(frozen=True)
class Walker:
    """What all lines at a point share.

    Attributes:
        model: The model.
        point: The point.
        photo: The picture that was inverted.
        method: How to walk.
        mask: Where edits are meant to be.
    """

    model: latentjac.Model
    point: latentjac.Point
    photo: Image.Image
    method: Method
    mask: Mask | None = None

    def lines(self, titles: list[str], notes: list[str], directions: torch.Tensor, end: float) -> list[Line]:
        """The pictures along directions ``[q, ...]``, evenly to both sides up to a distance; one edit for all."""
        distances = torch.linspace(-end, end, FRAMES, dtype=torch.float64).tolist()
        edit = self._edit(directions, distances)
        return [self._line_of(edit, i, title, note) for i, (title, note) in enumerate(zip(titles, notes, strict=True))]

    def goes_with(self, other: Walker) -> bool:
        """Whether directions of both may be followed together: at one point, with one method and mask."""
        same = torch.equal(self.point.sample, other.point.sample) and self.method == other.method
        masks = [None if at.mask is None else at.mask.pixels for at in (self, other)]
        return same and (masks[0] is masks[1] or (None not in masks and torch.equal(*masks)))  # type: ignore[arg-type]

    def of_slider(self, edit: latentjac.Edit, title: str, note: str, values: tuple[float, ...]) -> Line:
        """The line of a saved slider that was applied at the point."""
        return replace(self._line_of(edit, 0, title, note), values=values)

    def longer(self, line: Line) -> Line:
        """The same line, twice as far to both sides; only what is new is drawn.

        Raises:
            ValueError: If that is farther than an edit may go, or the line is that of a saved slider.
        """
        if line.values is not None:
            raise ValueError("A saved slider goes from -1 to 1.")
        end, count = line.end, FRAMES // 2
        if 2 * end >= FARTHEST:
            raise ValueError(f"A distance must be less than {FARTHEST:g}, got {2 * end:g}")
        beyond = [end + (i + 1) * end / count for i in range(count)]
        distances = [-d for d in reversed(beyond)] + beyond
        edit = self._edit(line.direction, distances)
        leakage = None
        if line.leakage is not None and edit.leakage is not None:
            new = _leakage(edit.leakage[0], distances)
            leakage = (*new[:count], *line.leakage, *new[count:])
        return replace(
            line,
            distances=(*distances[:count], *line.distances, *distances[count:]),
            images=(*edit.images[:count], *line.images, *edit.images[count:]),
            leakage=leakage,
        )

    def composed(self, lines: list[Line], distances: list[float]) -> Image.Image:
        """The picture at the end of a walk along several directions at once."""
        directions = torch.stack([line.direction for line in lines])
        edit = latentjac.edit(
            self.model, self.point, directions, distances, compose=True, photo=self.photo, **self._options(plain=True)
        )
        return edit.images[0]

    def _line_of(self, edit: latentjac.Edit, row: int, title: str, note: str) -> Line:
        return Line(
            title=title,
            note=note,
            direction=edit.directions[row],
            distances=edit.distances,
            images=tuple(edit.image(row, column) for column in range(len(edit.distances))),
            walker=self,
            linear_up_to=None if edit.linearity is None else edit.linearity[row].radius,
            leakage=None if edit.leakage is None else _leakage(edit.leakage[row], edit.distances),
            photo_psnr=_psnr(edit.residual),
        )

    def _edit(self, directions: torch.Tensor, distances: list[float]) -> latentjac.Edit:
        return latentjac.edit(self.model, self.point, directions, distances, photo=self.photo, **self._options())

    def _options(self, *, plain: bool = False) -> dict[str, Any]:
        method = replace(self.method, diagnostics=False) if plain else self.method  # type: ignore[type-var, call-arg]
        return {"method": method, "mask": self.mask}


def _leakage(row: torch.Tensor, distances: Sequence[float]) -> tuple[float, ...]:
    """Of each picture; not known where nothing is changed."""
    return tuple(float("nan") if d == 0 else value for d, value in zip(distances, row.tolist(), strict=True))


def _psnr(residual: torch.Tensor | None) -> float:
    """In dB of pictures in [0, 1]."""
    if residual is None:
        return float("nan")
    mean = residual.double().square().mean().clamp_min(1e-12)
    return float(-10 * mean.log10())
