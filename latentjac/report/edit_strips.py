"""The pictures of an edit, for sliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from latentjac.arguments import check_kind, check_text
from latentjac.editing import Edit, Frames
from latentjac.report.scrubber import Strip, check_picture

_MOST = 25  # pictures that a slider goes through


def edit_strips(
    edit: Edit,
    titles: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    unchanged: Image.Image | None = None,
    frames: Sequence[Frames] = (),
) -> list[Strip]:
    """A strip a direction, or one of composed directions; none where there is only one picture a direction.

    Args:
        edit: The edit.
        titles: Of the strips; by default directions are numbered from 1.
        notes: Beside the titles; by default there are none.
        unchanged: The picture at distance 0, if the edit has none there; made as large as those of the edit.
        frames: Pictures on the way of each strip, from :func:`latentjac.editing.walk_frames`. Without, they are those
            of the edit with mixtures of neighbours between them, which take no network.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If titles, notes or frames are given but not one a strip, or the unchanged picture has no pixels.

    Example:
        ``html = latentjac.report.scrubber(edit_strips(edit, unchanged=photo), original=photo)``
    """
    name = "edit_strips"
    check_kind(name, "edit", edit, Edit, "a latentjac.Edit")
    rows = len(edit.samples)
    for argument, texts in (("titles", titles), ("notes", notes)):
        _check_each(name, argument, texts, str, "a str", rows)
        for i, text in enumerate(texts):
            check_text(name, f"{argument}[{i}]", text)
    _check_each(name, "frames", frames, Frames, "latentjac.editing.Frames", rows)
    check_picture(name, "unchanged", unchanged)
    if not edit.images:
        return []
    distances = (1.0,) if edit.composed else edit.distances
    strips = []
    for row in range(rows):
        facts: dict[str, Any] = {"title": titles[row] if titles else _title(edit, row)}
        facts["note"] = notes[row] if notes else ""
        facts["unit"] = "parts of the way" if edit.composed else edit.unit
        if edit.linearity is not None and not edit.composed:
            facts["linear_up_to"] = edit.linearity[row].radius
        images, there = _fewer(frames[row]) if frames else _own(edit, row, distances, unchanged)
        if len(there) < 2:
            continue
        if edit.leakage is not None:
            leaked = {0.0: 0.0, **_by_distance(distances, edit.leakage[row].tolist())}
            facts["leakage"] = [leaked.get(round(distance, 9), math.nan) for distance in there]
        strip = Strip(images=images, distances=there, **facts)
        strips.append(strip if frames else strip.filled())
    return strips


def _check_each(function: str, argument: str, values: Any, kind: type, each: str, rows: int) -> None:
    """Raise unless there are none, or one a strip."""
    check_kind(function, argument, values, (list, tuple), f"a list, each {each}")
    for i, value in enumerate(values):
        check_kind(function, f"{argument}[{i}]", value, kind, each)
    if len(values) not in (0, rows):
        raise ValueError(f"{function}: {argument} must be none or one a strip, {rows}, got {len(values)}")


def _title(edit: Edit, row: int) -> str:
    return f"{len(edit.directions)} directions at once" if edit.composed else f"direction {row + 1}"


def _own(
    edit: Edit, row: int, distances: Sequence[float], unchanged: Image.Image | None
) -> tuple[list[Image.Image], list[float]]:
    """The pictures that the edit has, with the unchanged one, in order."""
    known = {distance: edit.image(row, column) for column, distance in enumerate(distances)}
    if unchanged is not None:
        known.setdefault(0.0, unchanged.resize(edit.images[0].size))
    there = sorted(known)
    return [known[distance] for distance in there], there


def _by_distance(distances: Sequence[float], values: Sequence[float]) -> dict[float, float]:
    """Values by distances that rounding does not tell apart."""
    return {round(float(distance), 9): value for distance, value in zip(distances, values, strict=True)}


def _fewer(frames: Frames) -> tuple[list[Image.Image], list[float]]:
    """Pictures and distances, of very many some that are evenly spread."""
    last, count = len(frames.images) - 1, min(len(frames.images), _MOST)
    kept = [round(i * last / (count - 1)) for i in range(count)]
    return [frames.images[i] for i in kept], [frames.distances[i] for i in kept]
