"""Options that commands share, and the numbers that some of them hold as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

Photo = Annotated[Path, typer.Argument(help="Picture file: any format, mode, size and EXIF orientation.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; made if missing.")]
ModelName = Annotated[str, typer.Option("--model", help="Built-in name, diffusers pipeline folder or hub id.")]
Crop = Annotated[
    str | None,
    typer.Option(help="Box 'left,top,right,bottom' in pixels; default: the centred square."),
]
Steps = Annotated[int, typer.Option(help="DDIM steps between photo and noise.")]
Refinement = Annotated[int, typer.Option(help="Fixed-point iterations of every inversion step.")]
T = Annotated[
    float,
    typer.Option("--t", help="Noise level of the basis, a fraction of T: 1 is pure noise, 0 the least noisy level."),
]
K = Annotated[int, typer.Option("-k", help="Number of directions.")]
Layer = Annotated[str, typer.Option(help="Feature map: 'mid' (h-space), a module name, 'eps' or 'x0'.")]
Tol = Annotated[float, typer.Option(help="Largest relative residual of a singular triplet.")]
Device = Annotated[str, typer.Option(help="'cpu', 'cuda' or 'auto': a GPU where torch sees one.")]
Prompt = Annotated[
    str | None, typer.Option(help="For models with text: what the photo shows; default: the empty text.")
]
EditPrompt = Annotated[
    str | None,
    typer.Option(help="For models with text: what directions are found and followed under; default: --prompt."),
]
Seed = Annotated[int, typer.Option(help="Seed of the solver's start block.")]
Distances = Annotated[
    str, typer.Option("--distance", help="Signed distances, comma-separated, in noise standard deviations.")
]
EditSteps = Annotated[int, typer.Option("--edit-steps", help="Least number of steps of a walk; h-space takes none.")]
Gif = Annotated[bool, typer.Option(help="Draw walks as animations too; about doubles the time of the edit.")]
FRAMES = 13
Frames = Annotated[int, typer.Option(min=2, help="With --gif: pictures from the lowest distance to the highest.")]


def parse_numbers(option: str, text: str, distinct: bool = True) -> list[float]:
    """Comma-separated finite numbers, each once."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    repeated = distinct and len({f"{n:g}" for n in numbers}) < len(numbers)
    if not numbers or not all(map(math.isfinite, numbers)) or repeated:
        raise ValueError(f"{option}: expected different comma-separated numbers, got {text!r}")
    return numbers


def parse_indices(text: str) -> list[int]:
    """Numbers of directions that begin at 1 as indices that begin at 0."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) >= 1 for part in parts):
        raise ValueError(f"--direction: expected comma-separated numbers from 1, got {text!r}")
    return [int(part) - 1 for part in parts]


def parse_box(text: str | None) -> tuple[int, int, int, int] | None:
    """A crop box, or None where there is none."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().lstrip("-").isdigit() for part in parts):
        raise ValueError(f"--crop: expected 'left,top,right,bottom' in pixels, got {text!r}")
    left, top, right, bottom = (int(part) for part in parts)
    return left, top, right, bottom
