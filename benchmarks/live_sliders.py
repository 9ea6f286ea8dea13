"""The sliders of a run's page as they move, as an animated picture.

That of the README is made by ``latentjac demo --gif`` and then
``python benchmarks/live_sliders.py latentjac-demo/index.html docs/images/live-sliders.webp``. It takes Playwright and
Debian's Chromium.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = {"width": 960, "height": 620}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def positions(count: int, strips: int) -> list[list[int]]:
    """Where the sliders stand at each moment: one after the other goes to both its ends and back."""
    rest, last = [count // 2] * strips, count - 1
    way = [round(last / 2 * (1 + math.sin(2 * math.pi * i / 24))) for i in range(25)]
    found = []
    for number in range(strips):
        found += [[*rest[:number], place, *rest[number + 1 :]] for place in way]
    return [place for i, place in enumerate(found) if i == 0 or place != found[i - 1]]


def pictures(page: Any) -> list[Image.Image]:
    """What the sliders look like at each moment."""
    element = page.locator("latentjac-scrubber.lj-live")
    element.scroll_into_view_if_needed()
    strips = element.locator(".lj-strip").count()
    count = int(element.get_by_role("slider").first.get_attribute("max")) + 1
    found = []
    for places in positions(count, strips):
        element.evaluate("(element, places) => places.forEach((place, i) => element.show(i, place))", places)
        found.append(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))
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
    found[0].save(target, save_all=True, append_images=found[1:], duration=110, loop=0, quality=80, method=4)
    print(f"{target}: {len(found)} pictures of {found[0].size}, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
