"""Pages of runs and outputs of notebook cells, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import point_at, rand
from PIL import Image

import latentjac
from latentjac.editing import Linear
from latentjac.report import edit_strips, run_page, scrubber, write_png
from latentjac.report.samples import strip_of


@pytest.fixture(scope="module")
def edit(traced_model: latentjac.Model) -> latentjac.Edit:
    """Along two directions, where there is a mask."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8] = True
    point = point_at(rand(1, 3, 16, 16))
    return latentjac.edit(traced_model, point, rand(2, 3, 16, 16), [-2.0, 0.0, 2.0], method=Linear(), mask=mask)


@pytest.fixture
def page_file(edit: latentjac.Edit, tmp_path: Path) -> Path:
    sliders = scrubber(edit_strips(edit), original=Image.new("RGB", (16, 16)), original_title="photo")
    write_png(tmp_path / "sheet.png", edit.images[0])
    file = tmp_path / "index.html"
    walks = {
        "method": "linear", "unit": "noise standard deviations", "num_steps": 4, "directions": [1, 2],
        "distances": [-6.125, 6.125], "linear_up_to": [1.2051, 1.8213], "path": [[6.125, 6.125]] * 2,
        "feature_path": [[159.51, 142.13]] * 2, "cosine": [[[0.9581, 0.9618]] * 2], "leakage": [[1.1e-05, 0.2134]] * 2,
    }  # fmt: skip
    record = {
        "command": "edit", "command_line": "latentjac edit", "seconds": {"total": 1.0}, "psnr_db": 40.0, "edit": walks,
        "settings": {"identity": "7b8611f97fca3c9f" * 4}, "photo": {"file": "/folder" * 9 + "/face.jpg", "notes": []},
    }  # fmt: skip
    file.write_text(run_page(record, [("sheet.png", "the sheet")], sliders), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1280, 380])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_run_can_be_read_by_all(
    visit: Callable[..., Any], violations: Callable[..., list[str]], page_file: Path, scheme: str, width: int
) -> None:
    page = visit(page_file, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    lines = """[...document.querySelectorAll("td.number")].map((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getClientRects().length;
    })"""
    assert set(page.evaluate(lines)) == {1}  # numbers are not broken over lines
    assert page.locator("td.number").count() > 20
    slider = page.get_by_role("slider", name="direction 2, distance")
    slider.press("End")
    assert slider.get_attribute("aria-valuetext").startswith("+2 noise standard deviations")
    assert page.get_by_alt_text("the sheet").is_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_of_a_slider_can_be_read_by_all(
    visit: Callable[..., Any], violations: Callable[..., list[str]], tmp_path: Path, scheme: str, width: int
) -> None:
    """Each photo has an original of its own."""
    pictures = {value: Image.new("RGB", (16, 16), (0, int(99 + 90 * value), 0)) for value in (-1.0, 0.5, 1.0)}
    strips = [strip_of(name, pictures, original=Image.new("RGB", (16, 16)), linear=0.6) for name in ("one", "two")]
    record = {"command": "slider apply", "applied": {"values": [-1, 0.5, 1], "change at 1": 0.05}}
    file = tmp_path / "index.html"
    sliders = scrubber([strip.filled(9) for strip in strips if strip], original_title="photo")
    file.write_text(run_page(record, [("slider.safetensors", "the slider")], sliders), encoding="utf-8")
    page = visit(file, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    slider = page.get_by_role("slider", name="two, distance")
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext").startswith("−1 units of the slider")
    page.get_by_role("button", name="Original of two").press("Enter")
    assert page.locator(".lj-over:visible").count() == 1


def test_paper_is_light(visit: Callable[..., Any], page_file: Path) -> None:
    page = visit(page_file, color_scheme="dark", viewport={"width": 720, "height": 900})
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(22, 24, 29)"
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    tops = page.locator(".lj-strip").first.locator(".lj-frame").evaluate_all("(all) => all.map((one) => one.offsetTop)")
    assert tops[0] == tops[8]  # nine pictures beside each other


def test_without_scripts_the_page_is_whole(visit: Callable[..., Any], page_file: Path) -> None:
    page = visit(page_file, java_script_enabled=False)
    assert page.locator(".lj-frame img:visible").count() == 2 * 13 + 1
    assert page.get_by_alt_text("the sheet").is_visible()


def test_the_output_of_a_cell_works_as_jupyter_puts_it_there(
    visit: Callable[..., Any], violations: Callable[..., list[str]], edit: latentjac.Edit, tmp_path: Path
) -> None:
    """JupyterLab sets the HTML of an element and then makes its scripts anew, which runs them."""
    file = tmp_path / "notebook.html"
    cells = '<main><h1>notebook</h1><div id="one"></div><div id="two"></div></main>'
    file.write_text(f'<!DOCTYPE html><html lang="en"><title>notebook</title>{cells}</html>')
    page = visit(file)
    for cell in ("one", "two"):
        page.evaluate(
            """([cell, html]) => {
                const host = document.getElementById(cell);
                host.innerHTML = html;
                for (const script of host.querySelectorAll("script")) {
                    const anew = document.createElement("script");
                    anew.textContent = script.textContent;
                    script.replaceWith(anew);
                }
            }""",
            [cell, edit._repr_html_()],
        )
    second = page.locator("#two")
    second.get_by_role("slider").first.press("Home")
    assert second.locator(".lj-value").first.inner_text() == "−2"
    assert page.locator("#one .lj-value").first.inner_text() == "+2"
    assert violations(page) == []
