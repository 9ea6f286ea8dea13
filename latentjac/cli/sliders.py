"""Sliders for the page of a run, from the pictures of its edit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

import latentjac
from latentjac.editing import Frames
from latentjac.report import Strip

_MOST = 25  # pictures that a slider goes through


def strips_of(
    edit: latentjac.Edit,
    basis: latentjac.LocalBasis,
    chosen: Sequence[int],
    unchanged: Image.Image,
    frames: Sequence[Frames] = (),
) -> list[Strip]:
    """A strip a direction, or one of composed directions; none where all distances are 0.

    Args:
        edit: The edit.
        basis: Where its directions are from.
        chosen: Which of the basis they are.
        unchanged: The picture at distance 0.
        frames: Pictures on the way of each strip, if they were computed. Without, the pictures of the edit with
            mixtures of neighbours between them, which take no network.
    """
    distances = (1.0,) if edit.composed else edit.distances
    titles = [f"direction {i + 1}" for i in chosen]
    if edit.composed:
        titles = [f"directions {', '.join(str(i + 1) for i in chosen)}"]
    strips = []
    for row in range(len(edit.samples)):
        facts: dict[str, Any] = {"unit": "parts of the way" if edit.composed else edit.unit}
        if not edit.composed:
            facts["note"] = f"s = {basis.s[chosen[row]]:.3g}"
            facts["linear_up_to"] = None if edit.linearity is None else edit.linearity[row].radius
        if frames:
            images, there = _fewer(frames[row])
        else:
            known = {0.0: unchanged, **{d: edit.image(row, column) for column, d in enumerate(distances)}}
            there = sorted(known)
            images = [known[distance] for distance in there]
        if len(there) < 2:
            continue
        if edit.leakage is not None:
            leaked = {0.0: 0.0, **_by_distance(distances, edit.leakage[row].tolist())}
            facts["leakage"] = [leaked.get(round(distance, 9), math.nan) for distance in there]
        strip = Strip(titles[row], images, there, **facts)
        strips.append(strip if frames else strip.filled())
    return strips


def _by_distance(distances: Sequence[float], values: Sequence[float]) -> dict[float, float]:
    """Values by distances that rounding does not tell apart."""
    return {round(float(distance), 9): value for distance, value in zip(distances, values, strict=True)}


def _fewer(frames: Frames) -> tuple[list[Image.Image], list[float]]:
    """Pictures and distances, of very many some that are evenly spread."""
    last, count = len(frames.images) - 1, min(len(frames.images), _MOST)
    kept = [round(i * last / (count - 1)) for i in range(count)]
    return [frames.images[i] for i in kept], [frames.distances[i] for i in kept]
