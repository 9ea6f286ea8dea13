"""What reports are written as."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.arguments import check_kind, check_path
from latentjac.files import write_bytes
from latentjac.strict_json import to_json


def write_json(path: Path, content: Any) -> Path:
    """Write strict JSON, keys in the order given, with a final newline; see :mod:`latentjac.strict_json`.

    NaN and infinities become the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; what JSON has no kind for, as
    paths, becomes its text.

    Raises:
        TypeError: If path is none, or a key is not text or a number.
        ValueError: If path is no name of a file, or content holds itself or is nested too deeply.
        FileNotFoundError: If the folder does not exist.
    """
    path = check_path("write_json", "path", path)
    try:
        text = to_json(content, indent=2, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"write_json: content must be what JSON can hold, got {type(content).__name__}: {error}") from error
    return write_bytes(path, (text + "\n").encode())


def write_png(path: Path, image: Image.Image) -> Path:
    """Write a picture as PNG.

    Raises:
        TypeError: If path is none or image is not a picture.
        ValueError: If path is no name of a file, or the picture is empty.
        FileNotFoundError: If the folder does not exist.
    """
    import io

    path = check_path("write_png", "path", path)
    check_kind("write_png", "image", image, Image.Image, "a PIL image")
    if 0 in image.size:
        raise ValueError(f"write_png: image must have pixels, got size {image.size[0]}x{image.size[1]}")
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
