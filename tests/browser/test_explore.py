"""The explorer in a browser: from a photo to a saved slider, two visitors, a bad file, a reload in the middle."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet
from PIL import Image
from pipelines import build_stable_diffusion

import latentjac
from latentjac.explore import Shared

if os.environ.get("LATENTJAC_REQUIRE_BROWSER") != "1":
    pytest.importorskip("gradio")
pytestmark = pytest.mark.filterwarnings("ignore:invert. picture", "ignore:local_basis", "ignore::Warning:gradio")
IDLE = "() => document.querySelector('#lje-stop').disabled"
FARTHER, KEEP = (f".lje-slot button:has-text('{name}') >> nth=0" for name in ("Farther", "Keep"))
SLIDER = ".lje-line latentjac-scrubber.lj-live input[type=range]"


@contextmanager
def serving(made: Callable[[], latentjac.Model], folder: Path) -> Iterator[Any]:
    """The page of a model of random weights, served on loopback."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        from latentjac.explore.environment import settle

        for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "")  # what settle sets goes with the test
        settle(folder)
        from latentjac.explore.serve import serve

        torch.manual_seed(0)
        page = serve(Shared(made(), steps=4, tol=0.1, folder=folder))
        try:
            yield page
        finally:
            page.visitors.close()
            page.blocks.close(verbose=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of a small model without text."""
    folder = tmp_path_factory.mktemp("explore")
    with serving(lambda: latentjac.load(build_shallow_unet(), build_scheduler()), folder) as page:
        yield page


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One of a format and a depth that no browser shows, and a plain one."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    deep = folder / "deep.tif"
    Image.fromarray(random.integers(0, 65535, (20, 30), dtype=np.uint16)).save(deep)
    plain = folder / "plain.png"
    Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(plain)
    return deep, plain


@pytest.fixture
def enter(visit: Callable[..., Any], served: Any) -> Callable[..., Any]:
    return lambda **options: entered(visit, served, **options)


def entered(visit: Callable[..., Any], served: Any, **options: Any) -> Any:
    page = visit(served.blocks.local_url, **options)
    page.wait_for_function("() => document.querySelector('#lje-token textarea')?.value")
    return page


def upload(page: Any, photo: Path) -> None:
    page.set_input_files(".lje-drop input[type=file] >> nth=0", photo)
    page.wait_for_function("(name) => document.querySelector('#lje-crop')?.innerText.includes(name)", arg=photo.name)


def press(page: Any, button: str, there: str) -> None:
    """Press a button that computes, and wait for what comes of it, and until nothing computes any more."""
    page.click(button)
    page.wait_for_selector(there, state="attached")
    page.wait_for_function(IDLE)


def find(page: Any, k: int = 2) -> None:
    press(page, "#lje-invert", ".lje-pair")
    page.fill("#lje-k input", str(k))
    press(page, "#lje-find", f"#lje-line-{k - 1} latentjac-scrubber.lj-live")


def shown(page: Any, line: int = 0) -> str:
    return page.locator(".lje-line").nth(line).locator(".lj-strip .lj-frame:not([data-off]) img").get_attribute("src")


def test_from_a_photo_to_a_saved_slider(
    enter: Callable[..., Any],
    visit: Callable[..., Any],
    photos: tuple[Path, Path],
    violations: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    page = enter()
    upload(page, photos[0])
    box = page.locator(".lje-box")
    before = page.get_attribute(".lje-crop", "data-box")
    box.press("ArrowLeft")
    box.press("-")
    assert page.get_attribute(".lje-crop", "data-box") != before
    find(page)
    assert page.inner_text(".lje-number").endswith("PSNR of the reconstruction")
    assert "Basis: converged" in page.inner_text("#lje-facts")
    slider, still = page.locator(SLIDER).first, shown(page)
    slider.press("ArrowRight")
    assert shown(page) != still
    page.locator(SLIDER).nth(1).press("ArrowLeft")
    press(page, "#lje-compose", ".lje-composed img")
    assert page.inner_text(".lje-composed figcaption") == "direction 1: +1.5, direction 2: -1.5"
    press(page, FARTHER, "#lje-line-0 .lj-live .lj-frame[data-distance='12.0']")
    assert page.locator("#lje-line-0 .lj-value").inner_text() == "+1.5"  # it stays where it was
    page.locator("#lje-line-0 latentjac-scrubber.lj-live input[type=range]").press("End")
    assert page.locator("#lje-line-0 .lj-value").inner_text().startswith("+12")
    press(page, KEEP, "#lje-kept a")
    with page.expect_download() as download:
        page.click("#lje-kept a")
    download.value.save_as(tmp_path / "slider.safetensors")
    assert latentjac.Slider.load(tmp_path / "slider.safetensors").values == (-1.0, -0.5, 0.5, 1.0)
    with page.expect_download() as download:
        page.click("#lje-page")
    download.value.save_as(tmp_path / "page.zip")
    with zipfile.ZipFile(tmp_path / "page.zip") as archive:
        archive.extract("index.html", tmp_path)
    for scheme in ("light", "dark"):
        assert violations(visit(tmp_path / "index.html", color_scheme=scheme)) == []
    with page.expect_download() as download:
        page.locator(".lje-slot button:has-text('GIF')").first.click()
    assert download.value.suggested_filename == "direction-1.gif"
    assert violations(page) == []
    upload(page, photos[1])  # another photo: the slider file is applied to it
    press(page, "#lje-invert", ".lje-pair")
    page.set_input_files(".lje-drop-slider input[type=file]", tmp_path / "slider.safetensors")
    page.wait_for_selector("#lje-line-0 latentjac-scrubber.lj-live")
    assert page.locator("#lje-line-0 .lj-strip .lj-frame").count() == 5


def choose(page: Any, box: str, choice: str) -> None:
    """Choose one entry of a list of Gradio."""
    page.click(f"{box} input")
    page.click(f"{box} [role=option]:has-text('{choice}')")


def test_a_method_has_its_own_range(enter: Callable[..., Any], photos: tuple[Path, Path]) -> None:
    page = enter()
    upload(page, photos[1])
    find(page, 1)
    page.locator(SLIDER).first.press("End")
    choose(page, "#lje-method", "h-space")
    page.wait_for_function("() => document.querySelector('#lje-end input').value === '120'")
    assert "feature" in page.inner_text("#lje-end")
    press(page, "#lje-find", "#lje-line-0 .lj-live .lj-frame[data-distance='120.0']")
    assert page.locator("#lje-line-0 .lj-value").inner_text() == "0"  # other pictures: it begins anew
    assert "feature standard deviations" in page.locator(SLIDER).first.get_attribute("aria-valuetext")
    page.reload()
    page.wait_for_selector("#lje-line-0 .lj-live")
    assert page.input_value("#lje-end input") == "120"
    assert page.input_value("#lje-method input") == "h-space"
    assert page.locator("#lje-texts").count() == 0  # a model without text


def test_a_direction_between_two_texts_comes_to_the_others(
    visit: Callable[..., Any], photos: tuple[Path, Path], violations: Callable[..., list[str]], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    with serving(lambda: latentjac.load(build_stable_diffusion(tmp_path)), tmp_path) as served:
        page = entered(visit, served)
        upload(page, photos[1])
        find(page, 1)
        page.click("#lje-texts button >> nth=0")
        press(page, "#lje-between", ".lje-bad")
        assert page.inner_text(".lje-bad") == "Say where the direction is to lead."
        page.fill("#lje-to :is(input, textarea)", "a dog")
        press(page, "#lje-between", "#lje-line-1 latentjac-scrubber.lj-live")
        page.fill("#lje-from :is(input, textarea)", "a cat")
        press(page, "#lje-between", "#lje-line-2 latentjac-scrubber.lj-live")
        titles = [page.inner_text(f"#lje-line-{i} .lj-strip p >> nth=0") for i in range(3)]
        assert [" ".join(title.split()).split(" s =")[0] for title in titles] == [
            "direction 1", "a dog from what the photo shows", "a dog from a cat"
        ]  # fmt: skip
        assert violations(page) == []


def test_two_visitors_at_once(enter: Callable[..., Any], photos: tuple[Path, Path]) -> None:
    first, second = enter(), enter()
    upload(first, photos[0])
    upload(second, photos[1])
    for page in (first, second):
        page.click("#lje-invert")
    for page in (first, second):
        page.wait_for_selector(".lje-pair")
        page.fill("#lje-k input", "1")
        page.click("#lje-find")
    for page in (first, second):
        page.wait_for_selector("latentjac-scrubber.lj-live")
        page.wait_for_function(IDLE)
    assert "deep.tif" in first.inner_text("#lje-crop")
    assert "plain.png" in second.inner_text("#lje-crop")
    assert shown(first) != shown(second)
    mine, its = (page.locator(".lje-pair img").first.get_attribute("src") for page in (first, second))
    assert mine != its


def test_a_bad_file_gives_a_sentence(enter: Callable[..., Any], photos: tuple[Path, Path], tmp_path: Path) -> None:
    page = enter()
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture at all")
    page.set_input_files(".lje-drop input[type=file] >> nth=0", bad)
    page.wait_for_selector(".lje-bad")
    assert "picture" in page.inner_text(".lje-bad")
    upload(page, photos[1])
    assert page.locator(".lje-bad").count() == 0


def test_a_reload_in_the_middle(
    enter: Callable[..., Any], served: Any, photos: tuple[Path, Path], violations: Callable[..., list[str]]
) -> None:
    # A page that is left ends its streams with errors.
    page = enter(viewport={"width": 390, "height": 800}, color_scheme="dark", errors=True)
    upload(page, photos[1])
    press(page, "#lje-invert", ".lje-pair")
    page.locator(".lje-levels input").nth(1).check()
    page.fill("#lje-k input", "1")
    with served.shared.turn:  # the job waits
        page.click("#lje-find")
        page.wait_for_function("() => document.querySelector('#lje-status')?.innerText.includes('another visitor')")
        page.reload()
        page.wait_for_function("() => document.querySelector('#lje-status')?.innerText.includes('another visitor')")
    page.wait_for_selector("latentjac-scrubber.lj-live")
    page.wait_for_function(IDLE)
    assert page.locator(".lje-levels input").nth(1).is_checked()
    assert violations(page) == []
    with served.shared.turn:  # and can be stopped
        page.click("#lje-find")
        page.wait_for_selector("#lje-stop:enabled")
        page.click("#lje-stop")
        page.wait_for_function("() => document.querySelector('#lje-status')?.innerText.includes('Stopped')")


def test_only_this_machine_is_answered(served: Any) -> None:
    import httpx

    address = served.blocks.local_url
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"Host": "elsewhere.example"}).status_code == 400
    assert not served.blocks.share
    assert not served.blocks.analytics_enabled
    assert threading.active_count() < 60
