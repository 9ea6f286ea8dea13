"""Sliders that go through pictures, in a real browser: by keyboard, mouse and touch, in the light and in the dark."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentjac.report import Strip, scrubber, scrubber_assets

DISTANCES = (-2.0, -1.0, 0.0, 1.0, 2.0)
LEAKAGE = (0.5, 0.2, math.nan, 0.1, 0.4)
RED, GREEN = (200, 30, 30), (30, 160, 60)
HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>test</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<style>:root { color-scheme: light dark } body { font: 16px system-ui; background: Canvas; color: CanvasText }"
    "</style></head><body><main><h1>test</h1>"
)


def strips(count: int = 2) -> list[Strip]:
    """Pictures whose red says which one they are."""
    images = [Image.new("RGB", (64, 64), (50 * i, 0, 120)) for i in range(len(DISTANCES))]
    return [
        Strip(f"direction {i + 1}", images, DISTANCES, note=f"s = {9 - i}", linear_up_to=1.2, leakage=LEAKAGE)
        for i in range(count)
    ]


def page_of(folder: Path, *parts: str) -> Path:
    file = folder / "page.html"
    file.write_text(HEAD + "".join(parts) + "</main></body></html>", encoding="utf-8")
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return page_of(tmp_path, scrubber(strips(), original=Image.new("RGB", (64, 64), GREEN), original_title="photo"))


def shown(page: Any, number: int = 0) -> str:
    """Text of the picture that a strip shows; there is one at a time."""
    pictures = page.locator(".lj-strip").nth(number).locator(".lj-frame img:visible")
    assert pictures.count() == 1
    return pictures.get_attribute("alt")


def slider(page: Any, number: int = 0) -> Any:
    return page.get_by_role("slider").nth(number)


def test_the_keyboard_goes_through_pictures_and_says_where_it_is(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file)
    assert shown(page) == "direction 1, 0 noise standard deviations"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert shown(page) == "direction 1, +1 noise standard deviations"
    assert shown(page, 1) == "direction 2, 0 noise standard deviations"
    told = slider(page).get_attribute("aria-valuetext")
    assert told == "+1 noise standard deviations; within linear range ±1.2; leakage 0.1"
    page.keyboard.press("Home")
    assert shown(page) == "direction 1, −2 noise standard deviations"
    assert page.locator(".lj-value").first.inner_text() == "−2"
    assert page.locator(".lj-facts").first.inner_text() == "beyond linear range ±1.2, leakage 0.5"


def test_the_mouse_drags_a_slider_and_the_page_hears_of_it(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file)
    page.evaluate("document.addEventListener('scrub', (event) => { window.heard = event.detail })")
    box = slider(page, 1).bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, middle, steps=4)
    page.mouse.up()
    assert shown(page, 1) == "direction 2, +2 noise standard deviations"
    assert shown(page) == "direction 1, 0 noise standard deviations"
    assert page.evaluate("heard") == {"strip": 1, "index": 4, "distance": 2}
    page.evaluate("document.querySelector('latentjac-scrubber').show(0, 1)")
    assert page.evaluate("document.querySelector('latentjac-scrubber').indices") == [1, 4]
    assert shown(page) == "direction 1, −1 noise standard deviations"


def test_the_original_lies_over_a_picture_while_the_pointer_is_there(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file)
    over = page.locator(".lj-over")
    assert not over.first.is_visible()
    page.locator(".lj-stack").first.hover()
    assert over.first.is_visible()
    assert over.first.inner_text() == "photo"
    assert not over.nth(1).is_visible()
    page.mouse.move(0, 0)
    assert not over.first.is_visible()
    button = page.get_by_role("button", name="Original of direction 2")
    button.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert over.nth(1).is_visible()
    button.press("Enter")
    assert not over.nth(1).is_visible()


def test_touch_drags_a_slider_and_holds_the_original(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    box = slider(page).bounding_box()
    assert box["height"] >= 40  # of a finger
    page.touchscreen.tap(box["x"] + 0.76 * box["width"], box["y"] + 20)
    assert shown(page) == "direction 1, +1 noise standard deviations"
    fingers = page.context.new_cdp_session(page)
    place = page.locator(".lj-stack").nth(1).bounding_box()
    at = {"x": place["x"] + 20, "y": place["y"] + 20}
    fingers.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    page.locator(".lj-stack").nth(1).locator(".lj-over").wait_for(state="visible")
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.locator(".lj-stack").nth(1).locator(".lj-over").wait_for(state="hidden")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_picture_is_saved_by_a_click(visit: Callable[..., Any], file: Path, tmp_path: Path) -> None:
    page = visit(file, accept_downloads=True)
    slider(page).press("End")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture of direction 1").click()
    assert saved.value.suggested_filename == "direction-1_+2.png"
    saved.value.save_as(tmp_path / "saved.png")
    picture = Image.open(tmp_path / "saved.png")
    assert (picture.format, picture.size) == ("PNG", (64, 64))
    red, _, blue = picture.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
    assert abs(red - 200) < 8
    assert abs(blue - 120) < 8


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_readers(
    visit: Callable[..., Any], violations: Callable[..., list[str]], file: Path, scheme: str, width: int
) -> None:
    page = visit(file, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert violations(page) == []
    page.get_by_role("button", name="Original of direction 1").click()
    assert violations(page) == []
    ink = page.evaluate("getComputedStyle(document.querySelector('.lj-value')).color")
    assert ink == ("rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)")


def test_two_of_them_on_a_page_do_not_meet(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(page_of(tmp_path, scrubber(strips(1)), scrubber(strips(1), start=2.0)))
    assert (shown(page, 0), shown(page, 1)) == tuple(f"direction 1, {d} noise standard deviations" for d in ("0", "+2"))
    slider(page, 1).press("Home")
    assert (shown(page, 0), shown(page, 1)) == tuple(f"direction 1, {d} noise standard deviations" for d in ("0", "−2"))
    assert page.get_by_role("button", name="Original").count() == 0  # there is none


def test_it_lives_in_a_frame_and_where_it_is_put_later(visit: Callable[..., Any], tmp_path: Path) -> None:
    frame = f'<iframe title="frame" srcdoc="{escape(HEAD + scrubber(strips(1)))}"></iframe>'
    page = visit(page_of(tmp_path, scrubber_assets(), '<div id="later"></div>', frame))
    framed = page.frame_locator("iframe")
    framed.get_by_role("slider").press("End")
    assert framed.locator(".lj-value").inner_text() == "+2"
    page.evaluate("(html) => { document.getElementById('later').innerHTML = html }", scrubber(strips(1), assets=False))
    slider(page).press("Home")
    assert shown(page) == "direction 1, −2 noise standard deviations"


def test_all_pictures_stand_in_rows_on_paper_and_without_scripts(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file)
    page.emulate_media(media="print")
    still = visit(file, java_script_enabled=False)
    for each in (page, still):
        assert each.locator(".lj-frame img:visible").count() == 11
        assert each.locator(".lj-controls:visible").count() == 0
        assert "linear up to ±1.2" in each.locator(".lj-strip").first.inner_text()


def test_requests_to_other_machines_and_errors_are_seen(visit: Any, tmp_path: Path) -> None:
    visit(page_of(tmp_path, '<img alt="far" src="http://192.0.2.1/far.png"><script>throw new Error("torn")</script>'))
    found = set(visit.wrong)
    visit.wrong.clear()
    assert {"a request to http://192.0.2.1/far.png", "an error: torn"} <= found
