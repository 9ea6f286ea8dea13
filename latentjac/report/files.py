"""What reports are written as."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.files import write_bytes
from latentjac.strict_json import to_json


def write_json(path: Path, content: Any) -> Path:
    """Write strict JSON, keys in the order given, with a final newline; see :mod:`latentjac.strict_json`.

    NaN and infinities become the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; what JSON has no kind for, as
    paths, becomes its text.
    """
    return write_bytes(path, (to_json(content, indent=2, default=str) + "\n").encode())


def write_png(path: Path, image: Image.Image) -> Path:
    """Write a picture as PNG."""
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return write_bytes(path, buffer.getvalue())


def versions() -> dict[str, str]:
    """Versions that decide what a run computes."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("latentjac", "torch", "diffusers", "numpy", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
