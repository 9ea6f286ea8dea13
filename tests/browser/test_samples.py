"""The page of a run over many items, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from latentjac.report import run_page
from latentjac.report.samples import Sample, sample_sliders, strip_of


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    samples = []
    for number, name in enumerate(("first.jpg", "second photo.png")):
        pictures = {
            value: Image.new("RGB", (16, 16), (60 * number, int(99 + 90 * value), 0)) for value in (-1.0, 0.5, 1.0)
        }
        facts: dict[str, Any] = {"note": "slider, t = 0.7", "linear": 0.5, "leakage": [0.2, 0.1, 0.3]}
        original = Image.new("RGB", (16, 16), "white")
        strips = [strip_of(title, pictures, unchanged=original, **facts) for title in ("smile", "age")]
        samples.append(Sample(name, [strip for strip in strips if strip is not None], original))
    file = tmp_path / "index.html"
    file.write_text(run_page({"command": "run"}, [("run.json", "settings")], sample_sliders(samples)), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_samples_can_be_read_by_all(
    visit: Callable[..., Any], violations: Callable[..., list[str]], page_file: Path, scheme: str, width: int
) -> None:
    page = visit(page_file, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    second = page.get_by_role("region", name="second photo.png")
    slider = second.get_by_role("slider", name="age, distance")
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext").startswith("−1 units of the slider; beyond linear range ±0.5")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext").startswith("0 units of the slider; within")
    assert page.get_by_role("region", name="first.jpg").locator(".lj-value").all_inner_texts() == ["+0.5", "+0.5"]


def test_each_sample_has_its_own_original(visit: Callable[..., Any], page_file: Path) -> None:
    page = visit(page_file)
    page.locator(".lj-stack").nth(2).hover()
    assert page.locator(".lj-over:visible").count() == 1
    assert page.locator(".lj-over:visible span").inner_text() == "photo"
    page.get_by_role("region", name="first.jpg").get_by_role("button", name="Original of age").click()
    assert page.locator(".lj-over:visible").count() >= 1
