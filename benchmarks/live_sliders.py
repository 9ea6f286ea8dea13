"""The sliders of a run's page as they move, as an animated picture.

That of the README is made by ``latentjac demo --gif`` and then
``python benchmarks/live_sliders.py latentjac-demo/index.html docs/images/live-sliders.webp``. It takes Playwright and
Debian's Chromium.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

_EDGE = 16  # pixels around
SIZE = {"width": 960, "height": 620}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def positions(count: int, strips: int) -> list[list[int]]:
    """Where the sliders stand at each moment: one after the other goes to both its ends and back."""
    start, last = 3 * count // 4, count - 1
    way = [*range(start, last), *range(last, 0, -1), *range(start)]
    rest = [start] * strips
    return [[*rest[:number], place, *rest[number + 1 :]] for number in range(strips) for place in way]


def pictures(page: Any) -> list[Image.Image]:
    """What the sliders look like at each moment."""
    element = page.locator("latentjac-scrubber.lj-live")
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    clip = {"x": box["x"] - _EDGE, "y": box["y"] - _EDGE, "width": box["width"] + 2 * _EDGE}
    clip["height"] = box["height"] + 2 * _EDGE
    strips = element.locator(".lj-strip").count()
    count = int(element.get_by_role("slider").first.get_attribute("max")) + 1
    found = []
    for places in positions(count, strips):
        element.evaluate("(element, places) => places.forEach((place, i) => element.show(i, place))", places)
        found.append(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))
    return found


def main(page_file: Path, target: Path) -> None:
    """Draw the sliders of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.goto(page_file.resolve().as_uri())
        found = pictures(page)
        browser.close()
    found[0].save(target, save_all=True, append_images=found[1:], duration=110, loop=0, quality=86, method=4)
    print(f"{target}: {len(found)} pictures of {found[0].size}, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
