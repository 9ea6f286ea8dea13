"""Pictures along directions, with sliders: a piece of HTML that needs neither a server nor a network."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from latentjac.arguments import (
    as_float,
    check_bool,
    check_int,
    check_kind,
    check_number,
    check_sequence,
    check_text,
    is_number,
    shown,
)
from latentjac.strict_json import readable

MOST_FRAMES = 1000  # of a strip
MOST_BYTES = 3_000_000  # of all pictures of a scrubber before they are written as text, which makes a third more
_SIDES = 16, 4096
_QUALITY = 85


@dataclass(frozen=True)
class Strip:
    """Pictures along one direction, and what its slider's track shows.

    Attributes:
        title: Name of the direction.
        images: From the lowest to the highest distance, of one size.
        distances: Of each, ascending.
        note: Stands beside the title.
        unit: Of the distances.
        linear_up_to: How far from 0 the network is linear, in the unit; None where it is not known.
        leakage: Change outside a mask over the change inside, for each picture; NaN where it is not known. None without
            a mask.
        mixed: For each picture whether it was mixed from others, as by :meth:`filled`; by default none is.
        original: Picture to compare these with, where strips side by side have several.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If there are not at least two pictures of one size, with ascending distances, or a number is out of
            range.
    """

    title: str
    images: Sequence[Image.Image] = field(repr=False)
    distances: Sequence[float]
    note: str = ""
    unit: str = "noise standard deviations"
    linear_up_to: float | None = None
    leakage: Sequence[float] | None = None
    mixed: Sequence[bool] = ()
    original: Image.Image | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        name = "Strip"
        for text in ("title", "note", "unit"):
            check_text(name, text, getattr(self, text))
        check_kind(name, "images", self.images, (list, tuple), "a list of PIL images")
        for i, image in enumerate(self.images):
            check_kind(name, f"images[{i}]", image, Image.Image, "a PIL image")
        sizes = sorted({image.size for image in self.images})
        if not 2 <= len(self.images) <= MOST_FRAMES or len(sizes) != 1 or 0 in sizes[0]:
            got = f"{len(self.images)} of sizes {sizes[:4]}"
            raise ValueError(f"{name}: images must be 2 to {MOST_FRAMES} of one size, got {got}")
        given = check_sequence(name, "distances", self.distances, "numbers")
        distances = tuple(check_number(name, f"distances[{i}]", d) for i, d in enumerate(given))
        if len(distances) != len(self.images):
            raise ValueError(f"{name}: distances must be as many as images, {len(self.images)}, got {len(distances)}")
        if any(a >= b for a, b in pairwise(distances)):
            raise ValueError(f"{name}: distances must be ascending, got {shown(list(distances))}")
        object.__setattr__(self, "distances", distances)
        up_to = check_number(name, "linear_up_to", self.linear_up_to, 0, least=True, optional=True)
        object.__setattr__(self, "linear_up_to", up_to)
        object.__setattr__(self, "leakage", _checked_leakage(self.leakage, len(distances)))
        object.__setattr__(self, "mixed", _checked_mixed(self.mixed, len(distances)))
        check_picture(name, "original", self.original)

    def filled(self, count: int = 13) -> Strip:
        """With mixtures of two neighbours between the pictures, equally many in every gap; about ``count`` in all.

        A mixture takes no network, and is as good as pictures change evenly from one to the next.

        Raises:
            TypeError: If count is no int.
            ValueError: If it is out of range.
        """
        count = check_int("filled", "count", count, 2, MOST_FRAMES)
        gaps = len(self.images) - 1
        parts = max(1, round((count - 1) / gaps))
        leakage = [math.nan] * len(self.images) if self.leakage is None else self.leakage
        found: list[tuple[Image.Image, float, float, bool]] = []
        for i in range(gaps):
            found.append((self.images[i], self.distances[i], leakage[i], self.mixed[i]))
            near, far = (image.convert("RGB") for image in self.images[i : i + 2])
            for part in (number / parts for number in range(1, parts)):
                distance = self.distances[i] + part * (self.distances[i + 1] - self.distances[i])
                found.append((Image.blend(near, far, part), distance, math.nan, True))
        found.append((self.images[-1], self.distances[-1], leakage[-1], self.mixed[-1]))
        images, distances, leaked, mixed = (list(column) for column in zip(*found, strict=True))
        known = None if self.leakage is None else leaked
        return replace(self, images=images, distances=distances, leakage=known, mixed=mixed)


def _checked_leakage(leakage: Any, count: int) -> tuple[float, ...] | None:
    if leakage is None:
        return None
    given = check_sequence("Strip", "leakage", leakage, "numbers")
    for i, value in enumerate(given):
        if not is_number(value):
            raise TypeError(f"Strip: leakage[{i}] must be a number, got {type(value).__name__}")
    numbers = tuple(map(as_float, given))
    if len(numbers) != count or any(value < 0 for value in numbers):
        raise ValueError(f"Strip: leakage must be numbers from 0, one an image, got {shown(list(numbers))}")
    return numbers


def _checked_mixed(mixed: Any, count: int) -> tuple[bool, ...]:
    check_kind("Strip", "mixed", mixed, (list, tuple), "a list of bools")
    given = tuple(check_bool("Strip", f"mixed[{i}]", value) for i, value in enumerate(mixed))
    if len(given) not in (0, count):
        raise ValueError(f"Strip: mixed must be empty or one an image, got {len(given)}")
    return given or (False,) * count


def scrubber(
    strips: Sequence[Strip],
    *,
    original: Image.Image | None = None,
    original_title: str = "original",
    start: float | None = None,
    side: int = 384,
    assets: bool = True,
) -> str:
    """HTML of strips side by side, each with a slider that goes through its pictures.

    A piece to be put into any page, once or several times, also into a frame or the output of a notebook cell. It loads
    nothing. The original lies over a picture while a pointer is on it or a button is pressed in; another button saves
    the picture as PNG. Where scripts do not run, and on paper, all pictures stand in rows.

    In a browser the element ``latentjac-scrubber`` sends ``scrub`` events, with ``detail.strip``, ``detail.index`` and
    ``detail.distance``; its ``indices`` are those of the pictures that it shows, ``show(strip, index)`` changes one.

    Args:
        strips: At least one.
        original: Picture to compare with, for strips that have none of their own.
        original_title: What it is.
        start: Distance at which sliders stand at first, or the nearest of each strip; by default that of the computed
            picture nearest to half of the highest distance.
        side: Longer side of pictures in pixels, from 16 to 4096; larger ones are made smaller, and all of them where
            there would be more than 3 MB.
        assets: With style and script; without, :func:`scrubber_assets` has to be in the page, once.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there is no strip, or a number is out of range.

    Example:
        ``html = scrubber([Strip("direction 1", frames.images, frames.distances)], original=photo)``
    """
    name = "scrubber"
    check_kind(name, "strips", strips, (list, tuple), "a list of Strip")
    for i, strip in enumerate(strips):
        check_kind(name, f"strips[{i}]", strip, Strip, "a Strip")
    if not strips:
        raise ValueError("scrubber: strips must be at least one, got an empty list")
    check_picture(name, "original", original)
    original_title = check_text(name, "original_title", original_title)
    start = check_number(name, "start", start, optional=True)
    side = check_int(name, "side", side, *_SIDES)
    assets = check_bool(name, "assets", assets)
    return piece(strips, original, original_title, start=start, side=side, assets=assets)


def piece(
    strips: Sequence[Strip],
    original: Image.Image | None,
    original_title: str,
    *,
    start: float | None = None,
    side: int,
    assets: bool = False,
    most: int = MOST_BYTES,
) -> str:
    """What :func:`scrubber` gives, of arguments that were checked, with at most so many bytes of pictures."""
    own = [[*strip.images, *_there(strip.original)] for strip in strips]
    left = iter(_sources([*(image for images in own for image in images), *_there(original)], side, most))
    entries = [_shown(strip, [next(left) for _ in images], start) for strip, images in zip(strips, own, strict=True)]
    return _rendered(
        wanted="all" if assets else "body",
        strips=entries,
        units=list(dict.fromkeys(strip.unit for strip in strips)),
        original=next(left, None),
        original_title=original_title,
        has_linear=any(entry["linear"] for entry in entries),
        has_leakage=any(entry["leakage"] for entry in entries),
        has_mixed=any(any(strip.mixed) for strip in strips),
    )


def check_picture(function: str, argument: str, value: Any) -> None:
    """Raise unless it is a picture that has pixels, or None."""
    check_kind(function, argument, value, Image.Image, "a PIL image", optional=True)
    if value is not None and 0 in value.size:
        raise ValueError(f"{function}: {argument} must have pixels, got size {value.width}x{value.height}")


def _there(image: Image.Image | None) -> list[Image.Image]:
    return [] if image is None else [image]


def scrubber_assets() -> str:
    """Style and script of every :func:`scrubber` of a page that is made with ``assets=False``."""
    return _rendered(wanted="assets")


@cache
def _template() -> Any:
    folder = FileSystemLoader(Path(__file__).parent)
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=folder, autoescape=True, **options).get_template("scrubber.html")


def _rendered(**values: Any) -> str:
    return readable(_template().render(**values)).strip() + "\n"


def _sources(images: Sequence[Image.Image], side: int, most: int) -> list[str]:
    """Pictures as data URIs, of a side at most, and smaller where all together would be too large."""
    while True:
        contents = [_encoded(image, side) for image in images]
        size = sum(map(len, contents))
        if size <= most or side <= _SIDES[0]:
            return [f"data:image/webp;base64,{base64.b64encode(content).decode()}" for content in contents]
        longest = max(max(image.size) for image in images)
        side = max(_SIDES[0], int(min(side, longest) * 0.9 * math.sqrt(most / size)))


def _encoded(image: Image.Image, side: int) -> bytes:
    picture = image.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()


def _shown(strip: Strip, sources: list[str], start: float | None) -> dict[str, Any]:
    """What the template takes of a strip; behind the sources of its pictures stands that of its original, if any."""
    radius, distances = strip.linear_up_to, strip.distances
    low, high = (max(distances[0], -radius), min(distances[-1], radius)) if radius else (0.0, 0.0)
    ends = (_place(distances, low), _place(distances, high))
    return {
        "title": strip.title,
        "note": strip.note,
        "frames": [_frame(strip, i, source) for i, source in enumerate(sources[: len(strip.images)])],
        "original": sources[-1] if strip.original is not None else None,
        "start": _start(strip, start),
        "linear": (ends[0], round(ends[1] - ends[0], 2)) if low < high else None,
        "marks": _marks(strip),
        "leakage": None if strip.leakage is None else _area(strip.leakage),
        "has_facts": radius is not None or strip.leakage is not None or any(strip.mixed),
        "range": None if radius is None else f"linear up to \N{PLUS-MINUS SIGN}{radius:.2g}",
    }


def _start(strip: Strip, start: float | None) -> int:
    """Index of the picture that a slider stands at first; of two that are as near the further one."""
    there = [i for i, mixed in enumerate(strip.mixed) if start is not None or not mixed]
    wanted = strip.distances[-1] / 2 if start is None else start
    return min(there or [0], key=lambda i: (abs(strip.distances[i] - wanted), -strip.distances[i]))


def _frame(strip: Strip, i: int, source: str) -> dict[str, Any]:
    distance = strip.distances[i]
    number = f"{distance:+.3g}".replace("-", "\N{MINUS SIGN}") if distance else "0"
    caption = f"{number} {strip.unit}"
    facts = []
    if strip.linear_up_to is not None:
        side = "within" if abs(distance) <= strip.linear_up_to else "beyond"
        facts.append(f"{side} linear range \N{PLUS-MINUS SIGN}{strip.linear_up_to:.2g}")
    if strip.leakage is not None and not math.isnan(strip.leakage[i]):
        facts.append(f"leakage {strip.leakage[i]:.2g}" if math.isfinite(strip.leakage[i]) else "no change in the mask")
    if strip.mixed[i]:
        facts.append("mixed from its neighbours")
    name = re.sub(r"[^\w.]+", "-", strip.title).strip("-.") or "picture"
    return {
        "source": source,
        "distance": distance,
        "number": number,
        "caption": caption,
        "facts": ", ".join(facts),
        "say": "; ".join([caption, *facts]),
        "file": f"{name}_{distance:+g}.png",
    }


def _place(distances: Sequence[float], distance: float) -> float:
    """Where a distance is on a track of 100, along which the pictures are evenly spread; within its ends."""
    last = len(distances) - 1
    after = next((i for i, other in enumerate(distances) if other >= distance), last)
    if after == 0:
        return 0.0
    low, high = distances[after - 1], distances[after]
    part = min(1.0, (distance - low) / (high - low))
    return round(100 * (after - 1 + part) / last, 2)


def _marks(strip: Strip) -> list[dict[str, float]]:
    """A mark below the track for each picture, longer where it was computed, and one across the track at 0."""
    marks = []
    for distance, mixed in zip(strip.distances, strip.mixed, strict=True):
        top, height = (10, 27) if distance == 0 else (30, 3 if mixed else 7)
        marks.append({"x": round(_place(strip.distances, distance) - 0.3, 2), "top": top, "height": height})
    return marks


def _area(leakage: Sequence[float]) -> str:
    """A polygon of leakage over a track: from y = 20 for none to y = 4 for 1 and more, straight where it is unknown."""
    step = 100 / (len(leakage) - 1)
    known = [(i * step, 20 - 16 * min(value, 1.0)) for i, value in enumerate(leakage) if not math.isnan(value)]
    corners = [(known[0][0], 20), *known, (known[-1][0], 20)] if known else []
    return " ".join(f"{round(x, 2):g},{round(y, 2):g}" for x, y in corners)
