"""The documentation in a real browser: axe, in the light on a wide screen and in the dark on a narrow one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = ("index", "how-to/choose", "tutorial/your-photo", "reference/index", "gallery", "explore", "families")
# Slower notebooks are shown as they are written.
LEFT = ["tutorial/your-network.ipynb", "tutorial/your-batch.ipynb"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as HTML, with the output of a notebook; those of LATENTJAC_BUILT_DOCS, if there are some."""
    if "LATENTJAC_BUILT_DOCS" in os.environ:
        return Path(os.environ["LATENTJAC_BUILT_DOCS"])
    for package in ("sphinx", "furo", "myst_nb", "sphinx_copybutton"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package} (pip install latentjac[docs])")
    out = tmp_path_factory.mktemp("documentation")
    given = {"nb_execution_excludepatterns": LEFT, "nb_execution_timeout": 600}
    builder = (
        "from sphinx.application import Sphinx; import sys; docs, out = sys.argv[1:]; "
        f"Sphinx(docs, docs, out, out + '/.trees', 'html', {given!r}).build()"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", builder, str(ROOT / "docs"), str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return out


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 380)])
def test_pages_can_be_read_by_all(
    visit: Callable[..., Any], violations: Callable[..., list[str]], built: Path, page: str, scheme: str, width: int
) -> None:
    seen = visit(built / f"{page}.html", color_scheme=scheme, viewport={"width": width, "height": 900})
    assert seen.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(seen) == []


def test_the_tutorial_ends_in_sliders(visit: Callable[..., Any], built: Path) -> None:
    page = visit(built / "tutorial" / "your-photo.html")
    slider = page.get_by_role("slider", name="direction 1, distance")
    slider.press("End")
    assert slider.get_attribute("aria-valuetext").startswith("+4 noise standard deviations")


def test_the_picture_that_moves_stands_still_for_those_who_ask(visit: Callable[..., Any], built: Path) -> None:
    moving = 'article img[src$=".webp"]'
    assert visit(built / "index.html").locator(moving).count() == 1
    page = visit(built / "index.html", reduced_motion="reduce")
    still = page.get_by_role("img", name="Sliders of five directions of a face")
    page.wait_for_selector("canvas.still")
    assert still.bounding_box()["width"] > 300
    assert page.locator(moving).count() == 0
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
