"""Pages in a real browser: Debian's Chromium, driven by Playwright.

``visit`` opens an address and hands back a page of Playwright. The page may ask for nothing that is not on this
machine, nor may an error occur on it: ``visit.wrong`` has what did, and the test fails where there is something at its
end. ``violations`` is what axe finds. Without Playwright or Chromium all of it is skipped, unless
LATENTJAC_REQUIRE_BROWSER=1 turns the skips into failures.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
OWN = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "http://localhost:", "ws://127.0.0.1:")


def _require(found: Any, what: str) -> None:
    if found:
        return
    if os.environ.get("LATENTJAC_REQUIRE_BROWSER") == "1":
        pytest.fail(f"LATENTJAC_REQUIRE_BROWSER=1, but there is no {what}")
    pytest.skip(f"needs {what}")


# Not of the session: while Playwright runs, nothing else in this thread can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of one file."""
    program = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
    _require(program, "Chromium (apt install chromium)")
    _require(importlib.util.find_spec("playwright"), "playwright (pip install playwright)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file or an address in a context of its own, with options of Playwright's ``new_context``."""
    wrong: list[str] = []
    contexts = []

    def open_page(address: str | Path, *, errors: bool = False, **options: Any) -> Any:
        """A page; with ``errors`` those of its scripts are expected."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)

        def go(route: Any) -> None:
            if route.request.url.startswith(OWN):
                route.continue_()
            else:
                wrong.append(f"a request to {route.request.url}")
                route.abort()

        context.route("**/*", go)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a machine may have other work
        if not errors:
            page.on("pageerror", lambda error: wrong.append(f"an error: {error}"))
            page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    open_page.wrong = wrong  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def violations() -> Callable[..., list[str]]:
    """What axe finds wrong with a page: rules and the elements that break them."""
    _require(importlib.util.find_spec("axe_core_python"), "axe (pip install axe-core-python)")
    from axe_core_python.sync_playwright import Axe

    def found(page: Any, context: Any = None) -> list[str]:
        results = Axe().run(page, context)
        return [f"{entry['id']}: {node['html'][:200]}" for entry in results["violations"] for node in entry["nodes"]]

    return found
