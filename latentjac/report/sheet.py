"""Labelled contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from PIL import Image, ImageDraw, ImageFont

INK, FAINT, PAPER = (24, 26, 31), (110, 114, 122), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a label at its left and its pictures.

    Attributes:
        title: First line of the label.
        note: Second, fainter line.
        images: Pictures; None leaves a gap.
        captions: One under each picture, or none at all.
    """

    title: str
    note: str
    images: Sequence[Image.Image | None]
    captions: Sequence[str] = field(default=())


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def contact_sheet(
    rows: Sequence[Row], *, heading: str = "", columns: Sequence[str] = (), cell: int = 128, gap: int = 8
) -> Image.Image:
    """Draw rows of pictures with their labels.

    Args:
        rows: The rows, from the top.
        heading: Line above everything.
        columns: Labels above the pictures of the first rows.
        cell: Side of a picture in pixels; smaller ones are enlarged smoothly.
        gap: Space between pictures.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not rows or not any(row.images for row in rows):
        raise ValueError("contact_sheet: rows must hold at least one picture, got none")
    label = 24 + max(_width(text, 15) for row in rows for text in (row.title, row.note))
    width = label + max(len(row.images) for row in rows) * (cell + gap) + gap
    width = max(width, 2 * gap + _width(heading, 18))
    top = gap + (34 if heading else 0) + (24 if columns else 0)
    heights = [cell + gap + (20 if row.captions else 0) for row in rows]
    sheet = Image.new("RGB", (int(width), top + sum(heights) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        draw.text((gap, gap), heading, INK, _font(18))
    for i, text in enumerate(columns):
        centre = label + i * (cell + gap) + cell / 2
        draw.text((centre, top - 14), text, FAINT, _font(14), anchor="mm")
    y = top
    for row, height in zip(rows, heights, strict=True):
        draw.text((gap, y + cell / 2 - 12), row.title, INK, _font(15), anchor="lm")
        draw.text((gap, y + cell / 2 + 10), row.note, FAINT, _font(13), anchor="lm")
        for i, image in enumerate(row.images):
            x = int(label + i * (cell + gap))
            if image is not None:
                sheet.paste(image.convert("RGB").resize((cell, cell), Image.Resampling.BICUBIC), (x, y))
            if i < len(row.captions):
                draw.text((x + cell / 2, y + cell + 9), row.captions[i], FAINT, _font(13), anchor="mm")
        y += height
    return sheet


def _width(text: str, size: int) -> float:
    return _font(size).getlength(text)


def direction_image(direction: object) -> Image.Image:
    """A direction ``[C, H, W]`` as a picture: grey is zero, its largest entry at full contrast."""
    import torch

    from latentjac.models import to_pil

    if not isinstance(direction, torch.Tensor) or direction.ndim != 3:
        raise TypeError("direction_image: direction must be a tensor [C, H, W]")
    values = direction.detach().float().cpu()
    # The 99.5th percentile instead of the maximum: one bright pixel must not turn the rest grey.
    scale = values.abs().flatten().quantile(0.995).clamp_min(1e-12)
    pixels = (values / scale / 2 + 0.5).clamp(0, 1)
    return to_pil(pixels[None, :3] if len(pixels) >= 3 else pixels[None, :1])[0]
