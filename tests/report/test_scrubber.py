"""Pictures with sliders: what is in the HTML, how large it is, and that nothing in it can break out."""

from __future__ import annotations

import base64
import io
import math
import re

import pytest
import torch
from PIL import Image
from report.parsed import Page

from latentjac.models import to_pil
from latentjac.report import Strip, scrubber, scrubber_assets
from latentjac.report.scrubber import MOST_BYTES

NASTY = "<em>&\"'</script>é"


def pictures(count: int, side: int = 8) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), (20 * i, 100, 200)) for i in range(count)]


def noise(count: int, side: int) -> list[Image.Image]:
    return to_pil(torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)))


def strip(distances: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0), **options: object) -> Strip:
    return Strip("direction 1", pictures(len(distances)), distances, **options)  # type: ignore[arg-type]


def contents(html: str) -> list[Image.Image]:
    found = re.findall(r"data:image/webp;base64,([^\"]*)", html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_pictures_are_in_it_from_the_lowest_to_the_highest_distance_and_the_original_once() -> None:
    original = Image.new("RGB", (8, 8), (255, 0, 0))
    shown = contents(scrubber([strip(), strip()], original=original))
    reds = [image.convert("RGB").getpixel((4, 4))[0] for image in shown]  # type: ignore[index]
    assert len(reds) == 9
    for red, expected in zip(reds, [255, 0, 20, 40, 60, 0, 20, 40, 60], strict=True):
        assert abs(red - expected) < 8


def test_strips_are_compared_with_their_own_originals() -> None:
    own = Image.new("RGB", (8, 8), (250, 0, 0))
    html = scrubber([strip(original=own), strip()], original=Image.new("RGB", (8, 8), (150, 0, 0)))
    reds = [image.convert("RGB").getpixel((4, 4))[0] for image in contents(html)]  # type: ignore[index]
    for red, expected in zip(reds, [150, 250, 0, 20, 40, 60, 0, 20, 40, 60], strict=True):
        assert abs(red - expected) < 8
    assert html.count('class="lj-show"') == 2
    assert scrubber([strip(original=own), strip()]).count('class="lj-show"') == 1  # the other has nothing to compare
    assert strip(original=own).filled(7).original is own
    with pytest.raises(ValueError, match=r"^Strip: original must have pixels, got size 0x4"):
        strip(original=Image.new("RGB", (0, 4)))


def test_a_slider_stands_at_the_nearest_distance_and_tells_it() -> None:
    html = scrubber([strip(linear_up_to=1.2, leakage=(0.5, math.nan, 0.0, math.inf))], start=-0.9)
    slider = next(tag for tag in re.findall("<input[^>]*>", html))
    assert 'value="1"' in slider
    assert 'min="0" max="3"' in slider
    assert 'aria-valuetext="−1 noise standard deviations; within linear range ±1.2"' in slider
    told = re.findall('data-say="([^"]*)"', html)
    assert told[0].endswith("beyond linear range ±1.2; leakage 0.5")
    assert told[2].startswith("0 noise standard")
    assert told[2].endswith("leakage 0")
    assert told[3].endswith("no change in the mask")


def test_a_slider_stands_at_a_computed_picture_halfway_up() -> None:
    few = strip((-3.0, 0.0, 1.0))
    for shown, place in ((few, 2), (few.filled(7), 6), (strip((-1.0, 0.0, 1.0, 2.0)), 2), (strip((-2.0, -1.0)), 1)):
        assert f'value="{place}"' in scrubber([shown], assets=False)


def test_the_linear_range_and_leakage_are_on_the_track_where_their_distances_are() -> None:
    html = scrubber([strip((-2.0, 0.0, 1.0), linear_up_to=0.5, leakage=(0.25, math.nan, 2.0))])
    # Three pictures: 0 is in the middle, -0.5 and 0.5 a quarter and a half of the way to the next ones.
    assert '<rect class="lj-linear" x="37.5" y="22" width="37.5"' in html
    assert re.findall('points="([^"]*)"', html) == ["0,20 0,16 100,4 100,20"]
    wide = scrubber([strip((-2.0, 0.0, 1.0), linear_up_to=9.0)])
    assert '<rect class="lj-linear" x="0.0" y="22" width="100.0"' in wide
    assert "lj-leakage" not in wide.partition("<style>")[0]
    assert 'class="lj-linear"' not in scrubber([strip(linear_up_to=0.0)])


def test_gaps_are_filled_with_mixtures_that_say_what_they_are() -> None:
    few = strip((-3.0, 0.0, 1.0), leakage=(0.5, 0.0, 0.25))
    more = few.filled(7)
    assert more.distances == (-3.0, -2.0, -1.0, 0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)
    assert more.mixed == (False, True, True, False, True, True, False)
    assert [image.getpixel((0, 0))[0] for image in more.images] == [0, 6, 13, 20, 26, 33, 40]
    assert [value for value in more.leakage if value == value] == [0.5, 0.0, 0.25]
    html = scrubber([more])
    assert len(re.findall('data-say="[^"]*mixed from its neighbours', html)) == 4
    assert "those between mixed from them" in html
    assert "mixed" not in scrubber([few]).partition("<style>")[0]
    assert few.filled(2) == few


def test_everything_is_escaped() -> None:
    nasty = Strip(NASTY, pictures(2), (0.0, 1.0), note=NASTY, unit=NASTY)
    html = scrubber([nasty], original=pictures(1)[0], original_title=NASTY, assets=False)
    assert Page(html).text.count(NASTY) == 4  # title, note, unit, original
    assert "em" not in Page(html).tags
    assert "</script>" not in html
    assert re.findall('data-file="([^"]*)"', html) == ["em-script-é_+0.png", "em-script-é_+1.png"]


def test_style_and_script_come_once_where_they_are_asked_for() -> None:
    whole, body, assets = scrubber([strip()]), scrubber([strip()], assets=False), scrubber_assets()
    assert whole.split() == (body + assets).split()
    assert "<style>" not in body
    assert "<script>" not in body
    assert assets.count("<script>") == assets.count("<style>") == 1
    assert "latentjac-scrubber " not in assets
    assert "http" not in whole.replace("http://www.w3.org/2000/svg", "")
    Page(whole)  # balanced


def test_large_pictures_are_made_smaller_until_all_of_them_fit() -> None:
    big = [Strip(f"direction {i}", noise(3, 700), (-1.0, 0.0, 1.0)) for i in range(6)]
    html = scrubber(big, side=700)
    assert len(html) < MOST_BYTES * 4 / 3 + 60_000
    sides = {image.size for image in contents(html)}
    assert len(sides) == 1
    assert 200 < sides.pop()[0] < 700  # noise is the worst there is
    assert {image.size for image in contents(scrubber(big[:1], side=64))} == {(64, 64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": pictures(1), "distances": (0.0,)}, "images must be 2 to 1000 of one size, got 1"),
        ({"images": [*pictures(1), *pictures(1, 9)]}, r"images must be 2 to 1000 of one size, got 2 of sizes \[\(8, 8"),
        ({"distances": (0.0, 0.0)}, r"distances must be ascending, got \[0.0, 0.0\]"),
        ({"distances": (0.0, 1.0, 2.0)}, "distances must be as many as images, 2, got 3"),
        ({"distances": (0.0, math.nan)}, r"distances\[1\] must be"),
        ({"linear_up_to": -1.0}, "linear_up_to must be"),
        ({"mixed": (True,)}, "mixed must be empty or one an image, got 1"),
        ({"leakage": (0.0,)}, "leakage must be numbers from 0, one an image"),
        ({"leakage": (0.0, -1.0)}, "leakage must be numbers from 0, one an image"),
    ],
)
def test_a_strip_that_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Strip: {message}"):
        Strip(**{"title": "a", "images": pictures(2), "distances": (0.0, 1.0), **change})


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^scrubber: strips must be at least one, got an empty list"):
        scrubber([])
    with pytest.raises(TypeError, match=r"^scrubber: strips\[0\] must be a Strip, got str"):
        scrubber(["a"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^scrubber: side must be"):
        scrubber([strip()], side=8)
    with pytest.raises(TypeError, match=r"^scrubber: original must be a PIL image or None, got int"):
        scrubber([strip()], original=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^scrubber: original must have pixels, got size 0x4"):
        scrubber([strip()], original=Image.new("RGB", (0, 4)))
