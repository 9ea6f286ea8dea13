"""Some items of a run for its page: sliders through the pictures that the run made of them, and what else it drew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from latentjac.batch.folder import PICTURES
from latentjac.batch.results import Results
from latentjac.editing.methods import BY_NAME as METHODS
from latentjac.report.samples import Sample, narrower, strip_of
from latentjac.report.scrubber import Strip

MOST_STRIPS, MOST_STILLS = 24, 24
_MOST_ITEMS = 8  # with sliders

Photo = Callable[[str], Image.Image | None]  # of an item, at the size of the model


@dataclass
class Still:
    """A picture that no slider goes through.

    Attributes:
        file: Where it is, relative to the folder, unless it is in a tar file.
        what: It is.
        image: It, opened.
    """

    file: str
    what: str
    image: Image.Image


@dataclass
class Samples:
    """What the page shows.

    Attributes:
        live: Items with sliders.
        stills: Other pictures.
    """

    live: list[Sample] = field(default_factory=list)
    stills: list[Still] = field(default_factory=list)

    def take(self, found: Sample | None, stills: list[Still]) -> bool:
        """Take up an item; whether there is room for another one."""
        if found is not None:
            self.live.append(found)
        self.stills += stills[: MOST_STILLS - len(self.stills)]
        strips = sum(len(sample.strips) for sample in self.live)
        full = strips >= MOST_STRIPS or len(self.live) >= _MOST_ITEMS
        return not full and len(self.stills) < MOST_STILLS


def samples_of(results: Results, photo: Photo) -> Samples:
    """The first items that have pictures, as many as the page has room for.

    Pictures that are gone, as somebody may have removed them, are left out.
    """
    samples = Samples()
    for id in _drawn(results):
        try:
            rows = results.rows(id)
            images = results.images(id)
        except (OSError, ValueError):
            continue
        left = iter(images)
        pairs = [(row, [next(left) for _ in row["pictures"] or ()]) for row in rows]
        if not samples.take(*_of_item(id, pairs, photo, results)):
            break
    return samples


def _drawn(results: Results) -> Iterator[str]:
    """Ids of items that have pictures, in order."""
    import pyarrow.compute as compute

    table = results.table(["id", "pictures"])
    found = table.filter(compute.is_valid(table.column("pictures"))).column("id")
    yield from dict.fromkeys(found.slice(0, 50 * MOST_STILLS).to_pylist())


def _of_item(
    id: str, pairs: list[tuple[dict[str, Any], list[Image.Image]]], photo: Photo, results: Results
) -> tuple[Sample | None, list[Still]]:
    """The sliders of an item, and its other pictures."""
    generated = next((images[0] for row, images in pairs if row["step"] == "sample"), None)
    settings = results.manifest.get("settings", {})
    has_strips = any(row["step"] in ("edit", "slider") for row, images in pairs if images)
    original = generated if generated is not None or not has_strips else photo(id)
    strips: list[Strip] = []
    stills: list[Still] = []
    for row, images in pairs:
        found = _strips(row, images, settings, original, unchanged=generated)
        strips += found[: MOST_STRIPS - len(strips)]
        if not found and row["step"] != "sample":
            stills += _stills(id, row, images)
    if generated is not None and not strips:
        stills = [still for row, images in pairs if images for still in _stills(id, row, images)]
    title = "sample" if generated is not None else "photo"
    return Sample(id, strips, original, title) if strips else None, stills


def _stills(id: str, row: dict[str, Any], images: list[Image.Image]) -> list[Still]:
    files = [f"{PICTURES}/{row['part']}/{name}" for name in row["pictures"] or ()]
    return [Still(file, f"{id}, {row['step']}", image) for file, image in zip(files, images, strict=True)]


def _strips(
    row: dict[str, Any],
    images: list[Image.Image],
    settings: dict[str, Any],
    original: Image.Image | None,
    unchanged: Image.Image | None,
) -> list[Strip]:
    """The sliders through the pictures of a row; none where there are too few for one.

    Args:
        row: The row.
        images: Its pictures.
        settings: Those of the run.
        original: What the item was before.
        unchanged: That, where it is also what a distance of 0 gives.
    """
    entries = settings.get(f"{row['step']}s")
    if not images or row["step"] not in ("edit", "slider") or not entries:
        return []
    entry = entries[row["number"] - 1]
    number = f" {row['number']}" if len(entries) > 1 else ""
    note = f"{row['step']}{number}, t = {row['t']:g}"
    same = original if entry["residual"] else unchanged  # with it, 0 is the photo itself
    if row["step"] == "slider":
        pictures = dict(zip(row["values"], images, strict=True))
        linear, leakage = narrower(row["linear"]), row["leakage"]
        strip = strip_of(row["slider"], pictures, note=note, unchanged=same, linear=linear, leakage=leakage)
        return [] if strip is None else [strip]
    if entry["compose"]:
        return []
    unit, count, found = METHODS[row["method"]].unit, len(row["distance"]), []
    for i, direction in enumerate(row["directions"]):
        pictures = dict(zip(row["distance"], images[i * count : (i + 1) * count], strict=True))
        linear = None if row["linear_up_to"] is None else row["linear_up_to"][i]
        leakage = None if row["leakage"] is None else row["leakage"][i * count : (i + 1) * count]
        title = f"direction {direction:g}"
        strip = strip_of(title, pictures, note=note, unit=unit, unchanged=same, linear=linear, leakage=leakage)
        found += [] if strip is None else [strip]
    return found
