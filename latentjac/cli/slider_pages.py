"""What the slider commands write: pictures, pages and records."""

from __future__ import annotations

import math

from PIL import Image

from latentjac.cli.photo import Picture
from latentjac.cli.run_folder import RunFolder
from latentjac.cli.stages import Inverted, unchanged_of
from latentjac.diffusion import Point
from latentjac.editing import Applied, Slider, walk_frames
from latentjac.report import Row, Strip, contact_sheet, scrubber
from latentjac.report.samples import narrower, strip_of

MOST_STRIPS = 24  # on a page; of more photos those of the first


def describe(run: RunFolder, slider: Slider) -> None:
    """Write down what a slider is and print the main numbers."""
    unit = slider.method.unit
    run.record["slider"] = {
        "change": slider.change, "values": slider.values, "distances": slider.distances, "changes": slider.changes,
        "linear": slider.linear, "cosines": slider.cosines, "leakage": slider.leakage, "others": slider.others,
        "unit": unit, "carry": str(slider.carry), "method": str(slider.method),
    }  # fmt: skip
    picture = slider.picture
    assert picture is not None
    run.picture("sheet.png", "the photo at -1, -1/2, 0, 1/2 and 1", picture)
    low, high = slider.distances[0], slider.distances[-1]
    print(f"slider: -1 to 1 is {low:+.3g} to {high:+.3g} {unit}, an RMS change of {slider.change:g} at both ends")
    if slider.linear is not None:
        print(f"slider: the network is linear from {slider.linear[0]:+.2f} to {slider.linear[1]:+.2f}")
    if slider.leakage is not None:
        print(f"slider: changes outside the mask are up to {max(slider.leakage):.2g} of those inside (RMS)")


def draw_made(run: RunFolder, inverted: Inverted, point: Point, slider: Slider) -> None:
    """The page's slider of a slider: the pictures that it was calibrated by, and some between, on the same walk."""
    assert slider.edit is not None
    known = dict(zip(slider.values, slider.edit.distances, strict=True))
    values = [i / 4 for i in range(-4, 5) if i]
    distances = [known.get(value, slider.distance_for(value)) for value in values]
    with run.timed("drawing pictures for sliders"):
        frames = walk_frames(inverted.model, point, slider.edit, distances=distances, progress=True)
    leaked = None if slider.leakage is None else dict(zip(slider.values, slider.leakage, strict=True))
    strip = strip_of(
        "the slider",
        dict(zip(values, frames.images, strict=True)),
        unchanged=inverted.photo,
        linear=narrower(slider.linear),
        leakage=None if leaked is None else [leaked.get(value, math.nan) for value in values],
        original=inverted.photo,
    )
    _put_sliders(run, [strip])


def write_applied(
    run: RunFolder,
    slider: Slider,
    inverted: list[Inverted],
    pictures: list[Picture],
    applied: list[Applied],
    *,
    residual: bool,
) -> None:
    """The sheet, every picture, what was measured, and sliders; at 0 they have the photo, or what is left of it."""
    rows, record, strips = [], [], []
    for number, (source, picture, each) in enumerate(zip(inverted, pictures, applied, strict=True), 1):
        captions = ["photo", *(f"{value:+g}" for value in each.values)]
        linear = "" if each.linear is None else f"linear {each.linear[0]:+.2f} to {each.linear[1]:+.2f}"
        title = picture.file.stem[:24]
        rows.append(Row(title, linear, [source.photo, *each.images], captions))
        strips.append(_strip(title, each, source.photo, unchanged_of(source, residual=residual)))
        record.append({
            "photo": str(picture.file), "distances": each.edit.distances, "changes": each.changes.tolist(),
            "linear": each.linear, "retained": each.retained,
        })  # fmt: skip
        for value, image in zip(each.values, each.images, strict=True):
            run.picture(f"photo{number}_{value:+g}.png", f"photo {number} at {value:+g}", image)
        changes = ", ".join(f"{change:.3f}" for change in each.changes.tolist())
        print(f"photo {number}: RMS changes {changes} at values {', '.join(f'{v:+g}' for v in each.values)}")
    run.record["applied"] = {"values": list(applied[0].values), "change at 1": slider.change, "photos": record}
    heading = f"At value 1 every picture changes by {slider.change:g} (RMS)"
    run.picture("sheet.png", "every photo, and what the slider makes of it", contact_sheet(rows, heading=heading))
    _put_sliders(run, strips)


def _strip(title: str, applied: Applied, photo: Image.Image, unchanged: Image.Image) -> Strip | None:
    """The pictures of a photo by the value of the slider; None where there is only one."""
    leakage = applied.edit.leakage
    strip = strip_of(
        title,
        dict(zip(applied.values, applied.images, strict=True)),
        unchanged=unchanged,
        linear=narrower(applied.linear),
        leakage=None if leakage is None else leakage[0].tolist(),
        original=photo,
    )
    return None if strip is None else strip.filled(9)


def _put_sliders(run: RunFolder, strips: list[Strip | None]) -> None:
    if drawn := [strip for strip in strips if strip is not None][:MOST_STRIPS]:
        run.sliders = scrubber(drawn, original_title="photo")
