"""Sliders of several samples on one page, each with what it was before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from PIL import Image

from latentjac.report.scrubber import MOST_BYTES, Strip, piece, scrubber_assets

SLIDER_UNIT = "units of the slider"
_SIDE = 256  # pixels; there are many pictures on such a page
_WIDTH = 15  # of a slider, in the size of letters
_SECTION = Markup('<section aria-label="{0}" style="flex-basis: {2}rem">\n<h3>{0}</h3>\n{1}</section>\n')


@dataclass(frozen=True)
class Sample:
    """What was made of one photo or seed.

    Attributes:
        title: What it is called.
        strips: At least one.
        original: The picture before.
        original_title: What that is.
    """

    title: str
    strips: Sequence[Strip] = field(repr=False)
    original: Image.Image | None = field(default=None, repr=False)
    original_title: str = "photo"


def sample_sliders(samples: Sequence[Sample]) -> str:
    """HTML of the sliders of samples side by side, for :func:`latentjac.report.run_page`; the empty text of none.

    The pictures of all together are at most 3 MB, as those of one :func:`latentjac.report.scrubber` are.
    """
    if not samples:
        return ""
    most = MOST_BYTES // len(samples)
    parts = [
        _SECTION.format(
            sample.title,
            Markup(piece(sample.strips, sample.original, sample.original_title, side=_SIDE, most=most)),
            _WIDTH * len(sample.strips),
        )
        for sample in samples
    ]
    return f'<div class="samples">\n{"".join(map(str, parts))}</div>\n{scrubber_assets()}'


def strip_of(
    title: str,
    pictures: Mapping[float, Image.Image],
    *,
    note: str = "",
    unit: str = SLIDER_UNIT,
    unchanged: Image.Image | None = None,
    linear: float | None = None,
    leakage: Sequence[float] | None = None,
    original: Image.Image | None = None,
) -> Strip | None:
    """A strip of the pictures that there are, in the order of their distances; None of a single one.

    Args:
        title: Of the strip.
        pictures: By distance, or by the value of a slider.
        note: Beside the title.
        unit: Of the distances.
        unchanged: The picture at distance 0, where there is none among the others; made as large as they are.
        linear: How far the network is linear.
        leakage: At each of the pictures as they were given.
        original: To compare with, where strips side by side have several.
    """
    known = dict(pictures)
    leaked = {} if leakage is None else dict(zip(pictures, leakage, strict=True))
    if unchanged is not None and known:
        known.setdefault(0.0, unchanged.resize(next(iter(known.values())).size))
    if len(known) < 2:
        return None
    there = sorted(known)
    facts: dict[str, Any] = {"note": note, "unit": unit, "linear_up_to": linear, "original": original}
    if leaked:
        facts["leakage"] = [0.0 if distance == 0 else leaked.get(distance, math.nan) for distance in there]
    return Strip(title, [known[distance] for distance in there], there, **facts)


def narrower(linear: Sequence[float] | None) -> float | None:
    """The range of linearity of a slider to the side where it is shorter; None where it is not known."""
    return None if linear is None else min(-linear[0], linear[1])
