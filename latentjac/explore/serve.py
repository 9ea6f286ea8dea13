"""The page served on this machine."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from latentjac.explore import pieces
from latentjac.explore.page import Page
from latentjac.explore.state import Shared
from latentjac.report import scrubber_assets

HOST = "127.0.0.1"
_LARGEST_PHOTO = "200mb"


def serve(shared: Shared, *, port: int | None = None, share: bool = False, browser: bool = False) -> Page:
    """Serve the page to this machine alone, in threads of this process; return when it is there.

    Args:
        shared: What all visitors share.
        port: Of the server; the first free one from 7860 by default.
        share: Whether it also gets a public address, through a server of Gradio.
        browser: Whether to open it in a browser.
    """
    page = Page(shared)
    # Pages of other hosts, whose names lead to this machine, are not answered.
    hosts = ["*"] if share else [HOST, "localhost"]
    page.blocks.launch(
        server_name=HOST,
        server_port=port,
        share=share,
        inbrowser=browser,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        max_file_size=_LARGEST_PHOTO,
        footer_links=[],
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=pieces.asset("page.css"),
        head=scrubber_assets(),
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]},
    )
    return page


def wait(page: Page) -> None:
    """Wait for Ctrl-C, or the end of the process; then end what computes, and the server."""
    try:
        threading.Event().wait()
    finally:
        page.visitors.close()
        page.blocks.close(verbose=False)


def _theme() -> Any:
    """Fonts of the machine, small corners, no shadows."""
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    base = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", radius_size="sm", spacing_size="sm", font=sans, font_mono=mono
    )
    return base
