"""Pictures along one direction at a point, computed once and made longer on demand."""

from __future__ import annotations

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
        distances: Ascending, in standard deviations of the noise at the point.
        images: A picture for each.
        linear_up_to: How far from 0 the network is linear; None where that was not measured.
        leakage: With a mask, for each picture the change outside over the change inside.
        photo_psnr: PSNR of the way back from the point without an edit, in dB.
    """

    title: str
    note: str
    direction: torch.Tensor = field(repr=False)
    distances: tuple[float, ...]
    images: tuple[Image.Image, ...] = field(repr=False)
    linear_up_to: float | None
    leakage: tuple[float, ...] | None
    photo_psnr: float

    @property
    def end(self) -> float:
        """Its farthest distance."""
        return max(map(abs, self.distances))

    def nearest(self, distance: float) -> Image.Image:
        """The picture nearest to a distance."""
        return self.images[min(range(len(self.images)), key=lambda i: abs(self.distances[i] - distance))]


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
        psnr, found = _psnr(edit.residual), []
        for i, (title, note) in enumerate(zip(titles, notes, strict=True)):
            radius = None if edit.linearity is None else edit.linearity[i].radius
            leakage = None if edit.leakage is None else _leakage(edit.leakage[i], distances)
            images = tuple(edit.image(i, j) for j in range(FRAMES))
            found.append(Line(title, note, edit.directions[i], tuple(distances), images, radius, leakage, psnr))
        return found

    def longer(self, line: Line) -> Line:
        """The same line, twice as far to both sides; only what is new is drawn.

        Raises:
            ValueError: If that is farther than an edit may go.
        """
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

    def _edit(self, directions: torch.Tensor, distances: list[float]) -> latentjac.Edit:
        return latentjac.edit(self.model, self.point, directions, distances, photo=self.photo, **self._options())

    def _options(self, *, plain: bool = False) -> dict[str, Any]:
        method = replace(self.method, diagnostics=False) if plain else self.method  # type: ignore[type-var, call-arg]
        return {"method": method, "mask": self.mask}


def _leakage(row: torch.Tensor, distances: list[float]) -> tuple[float, ...]:
    """Of each picture; not known where nothing is changed."""
    return tuple(float("nan") if d == 0 else value for d, value in zip(distances, row.tolist(), strict=True))


def _psnr(residual: torch.Tensor | None) -> float:
    """In dB of pictures in [0, 1]."""
    if residual is None:
        return float("nan")
    mean = residual.double().square().mean().clamp_min(1e-12)
    return float(-10 * mean.log10())
