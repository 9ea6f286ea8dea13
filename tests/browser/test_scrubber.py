"""Sliders that go through pictures, in a real browser: by keyboard, mouse and touch, in the light and in the dark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
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
    return page_of(
        tmp_path, scrubber(strips(), original=Image.new("RGB", (64, 64), GREEN), original_title="photo", start=0.0)
    )


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


def test_page_keys_go_a_quarter_of_the_way(visit: Callable[..., Any], tmp_path: Path) -> None:
    images = [Image.new("RGB", (16, 16), (20 * i, 0, 120)) for i in range(9)]
    strip = Strip("direction 1", images, [float(i) for i in range(9)])
    page = visit(page_of(tmp_path, scrubber([strip], start=4.0)))
    page.evaluate("document.addEventListener('scrub', (event) => { window.heard = event.detail.distance })")
    for key, distance in (("PageUp", 6), ("PageUp", 8), ("PageUp", 8), ("PageDown", 6), ("End", 8), ("Home", 0)):
        slider(page).press(key)
        assert page.locator(".lj-value").inner_text() == (f"+{distance}" if distance else "0")
        assert page.evaluate("heard") == distance
    slider(page).press("ArrowUp")
    assert page.locator(".lj-value").inner_text() == "+1"


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


def test_each_picture_is_compared_with_its_own_original(visit: Callable[..., Any], tmp_path: Path) -> None:
    first, second = strips()
    own = replace(first, original=Image.new("RGB", (64, 64), RED))
    page = visit(page_of(tmp_path, scrubber([own, second], original=Image.new("RGB", (64, 64), GREEN))))
    assert page.locator(".lj-original:visible").count() == 0
    shown(page)
    overs = [page.locator(".lj-over img").nth(i).get_attribute("src") for i in (0, 1)]
    originals = page.locator(".lj-original img")
    assert overs == [originals.nth(i).get_attribute("src") for i in (1, 0)]
    page.emulate_media(media="print")
    assert page.locator(".lj-original:visible").count() == 2


def test_touch_drags_a_slider_and_holds_the_original(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    box = slider(page).bounding_box()
    assert box["height"] >= 40  # of a finger
    page.touchscreen.tap(box["x"] + 0.76 * box["width"], box["y"] + 20)
    assert shown(page) == "direction 1, +1 noise standard deviations"
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *at: dict[str, float]) -> None:
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(at)})

    ways = [{"x": box["x"] + part * box["width"], "y": box["y"] + 20} for part in (0.75, 0.6, 0.4, 0.2, 0.02)]
    touch("touchStart", ways[0])
    for at in ways[1:]:
        touch("touchMove", at)
    touch("touchEnd")
    assert shown(page) == "direction 1, −2 noise standard deviations"
    assert slider(page).get_attribute("aria-valuetext").startswith("−2 noise standard deviations")
    place = page.locator(".lj-stack").nth(1).bounding_box()
    at = {"x": place["x"] + 20, "y": place["y"] + 20}
    touch("touchStart", at)
    page.locator(".lj-stack").nth(1).locator(".lj-over").wait_for(state="visible")
    touch("touchEnd")
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


def test_a_pressed_button_is_told_apart_where_colours_are_forced(visit: Callable[..., Any], file: Path) -> None:
    page = visit(file, forced_colors="active")
    first, second = (page.get_by_role("button", name=f"Original of direction {i}") for i in (1, 2))
    first.click()
    first, second = (each.evaluate("(button) => getComputedStyle(button).backgroundColor") for each in (first, second))
    assert (first, first != second) == ("rgb(36, 88, 166)", True)


def test_two_of_them_on_a_page_do_not_meet(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(page_of(tmp_path, scrubber(strips(1), start=0.0), scrubber(strips(1), start=2.0)))
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


def test_it_begins_again_where_a_page_changes_it_in_place(visit: Callable[..., Any], tmp_path: Path) -> None:
    """Some pages keep an element and make its attributes and what is inside those of new HTML."""
    photo = Image.new("RGB", (64, 64), GREEN)
    page = visit(page_of(tmp_path, scrubber(strips(1), original=photo, original_title="photo", start=0.0)))
    page.evaluate("document.addEventListener('scrub', () => { window.heard = (window.heard || 0) + 1 })")
    slider(page).press("ArrowRight")
    images = [Image.new("RGB", (64, 64), (50 * i, 0, 120)) for i in range(len(DISTANCES))]
    more = [Image.new("RGB", (64, 64), (0, 60 * i, 0)) for i in range(2)]
    longer = Strip("direction 1", [more[0], *images, more[1]], (-3.0, *DISTANCES, 3.0))
    other = Strip("direction 1", [image.rotate(0).convert("L") for image in longer.images], longer.distances)
    for strip, stands in ((longer, "+1"), (other, "0")):
        html = scrubber([strip], original=photo, original_title="photo", start=0.0, assets=False)
        page.evaluate(
            """(html) => {
                const old = document.querySelector("latentjac-scrubber"), box = document.createElement("template");
                box.innerHTML = html;
                const morph = (old, made) => {
                    if (old.nodeType !== 1 || old.nodeName !== made.nodeName) {
                        if (!old.isEqualNode(made)) old.replaceWith(made.cloneNode(true));
                        return;
                    }
                    [...old.attributes].forEach(({ name }) => made.hasAttribute(name) || old.removeAttribute(name));
                    [...made.attributes].forEach(({ name, value }) => old.setAttribute(name, value));
                    const [olds, mades] = [[...old.childNodes], [...made.childNodes]];
                    mades.forEach((each, i) => olds[i] ? morph(olds[i], each) : old.append(each.cloneNode(true)));
                    olds.slice(mades.length).forEach((each) => each.remove());
                };
                morph(old, box.content.firstElementChild);
            }""",
            html,
        )
        page.wait_for_selector("latentjac-scrubber.lj-live .lj-controls:visible")
        assert shown(page).startswith(f"direction 1, {stands} ")  # at its picture, or where it begins
        page.evaluate("window.heard = 0")
        slider(page).press("End")
        assert shown(page) == "direction 1, +3 noise standard deviations"
        assert page.evaluate("heard") == 1
        button = page.get_by_role("button", name="Original of direction 1")
        button.press("Enter")
        assert page.locator(".lj-over:visible").count() == 1
        button.press("Enter")
        assert page.locator(".lj-over:visible").count() == 0
        slider(page).press("Home")
        for _ in range(4):
            slider(page).press("ArrowRight")
        assert shown(page).startswith("direction 1, +1 ")


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
