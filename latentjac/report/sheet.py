"""Labelled contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from PIL import Image, ImageDraw, ImageFont

from latentjac.arguments import check_int, check_kind, check_tensor, check_text

MOST_PIXELS = 4096  # of a cell
INK, FAINT, PAPER = (24, 26, 31), (110, 114, 122), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a label at its left and its pictures.

    Attributes:
        title: First line of the label.
        note: Second, fainter line.
        images: Pictures; None leaves a gap.
        captions: One under each picture, or none at all.
        thumbnail: Small picture between the label and the others.
    """

    title: str
    note: str
    images: Sequence[Image.Image | None]
    captions: Sequence[str] = field(default=())
    thumbnail: Image.Image | None = None


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
        cell: Longer side of a picture in pixels, at most 4096; smaller ones are enlarged smoothly, shapes are kept.
        gap: Space between pictures.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there is nothing to draw, or a number is out of range.
    """
    name = "contact_sheet"
    check_kind(name, "rows", rows, (list, tuple), "a list of Row")
    for i, row in enumerate(rows):
        check_kind(name, f"rows[{i}]", row, Row, "a Row")
    heading = check_text(name, "heading", heading)
    check_kind(name, "columns", columns, (list, tuple), "a list of texts")
    columns = [check_text(name, f"columns[{i}]", text) for i, text in enumerate(columns)]
    cell, gap = check_int(name, "cell", cell, 1, MOST_PIXELS), check_int(name, "gap", gap, 0, MOST_PIXELS)
    if not rows or not any(row.images for row in rows):
        raise ValueError("contact_sheet: rows must hold at least one picture, got none")
    label = 24 + max(_width(text, 15) for row in rows for text in (row.title, row.note))
    across, down = _largest(rows, cell)
    small = cell // 2
    thumbnails = label
    if any(row.thumbnail for row in rows):
        label += small + 2 * gap
    width = label + max(len(row.images) for row in rows) * (across + gap) + gap
    width = max(width, 2 * gap + _width(heading, 18))
    top = gap + (34 if heading else 0) + (24 if columns else 0)
    heights = [down + gap + (20 if row.captions else 0) for row in rows]
    sheet = Image.new("RGB", (int(width), top + sum(heights) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        draw.text((gap, gap), heading, INK, _font(18))
    for i, text in enumerate(columns):
        centre = label + i * (across + gap) + across / 2
        draw.text((centre, top - 14), text, FAINT, _font(14), anchor="mm")
    y = top
    for row, height in zip(rows, heights, strict=True):
        draw.text((gap, y + down / 2 - 12), row.title, INK, _font(15), anchor="lm")
        draw.text((gap, y + down / 2 + 10), row.note, FAINT, _font(13), anchor="lm")
        if row.thumbnail is not None:
            _paste(sheet, row.thumbnail, small, (int(thumbnails), y), (small, down))
        for i, image in enumerate(row.images):
            x = int(label + i * (across + gap))
            if image is not None:
                _paste(sheet, image, cell, (x, y), (across, down))
            if i < len(row.captions):
                draw.text((x + across / 2, y + down + 9), row.captions[i], FAINT, _font(13), anchor="mm")
        y += height
    return sheet


def _largest(rows: Sequence[Row], cell: int) -> tuple[int, int]:
    """Width and height that the pictures of all rows have room in."""
    sizes = [_enlarged(image.size, cell) for row in rows for image in row.images if image is not None]
    return max((size[0] for size in sizes), default=cell), max((size[1] for size in sizes), default=cell)


def _enlarged(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size scaled so that its longer side is this one."""
    longer = max(size)
    return max(1, round(size[0] * side / longer)), max(1, round(size[1] * side / longer))


def _paste(sheet: Image.Image, image: Image.Image, side: int, at: tuple[int, int], room: tuple[int, int]) -> None:
    """Draw a picture in the middle of a place of the sheet."""
    fitted = image.convert("RGB").resize(_enlarged(image.size, side), Image.Resampling.BICUBIC)
    sheet.paste(fitted, (at[0] + (room[0] - fitted.width) // 2, at[1] + (room[1] - fitted.height) // 2))


def _width(text: str, size: int) -> float:
    return _font(size).getlength(text)


def direction_image(direction: torch.Tensor) -> Image.Image:
    """A direction ``[C, H, W]`` as a picture: grey is zero, its largest entries at full contrast.

    Of the direction ``[C, F, H, W]`` of a video it is the middle frame, at the contrast of that.

    One or three channels are shown as they are; others, such as those of latents, by the one (of two) or three
    combinations of channels that carry most of the direction.

    Raises:
        TypeError: If direction is not a tensor.
        ValueError: If it is not floating-point and finite, or has another number of dimensions.
    """
    from latentjac.models import to_pil

    direction = check_tensor("direction_image", "direction", direction)
    if direction.ndim == 4 and direction.numel():
        direction = direction[:, direction.shape[1] // 2]
    if direction.ndim != 3 or direction.numel() == 0:
        raise ValueError(
            f"direction_image: direction must have shape [C, H, W] or [C, F, H, W], got {list(direction.shape)}"
        )
    values = direction.double()
    values = (values / values.abs().max().clamp_min(torch.finfo(values.dtype).tiny)).float().cpu()
    if len(values) not in (1, 3):
        values = _strongest(values, 3 if len(values) > 3 else 1)
    # The 99.5th percentile instead of the maximum: one bright pixel must not turn the rest grey.
    scale = values.abs().flatten().quantile(0.995).clamp_min(1e-12)
    return to_pil((values / scale / 2 + 0.5).clamp(0, 1)[None])[0]


def _strongest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Channels ``[count, H, W]``: principal components of the given ones around zero, their signs made definite."""
    weights = torch.linalg.svd(values.flatten(1), full_matrices=False).U[:, :count]
    weights = weights * weights.gather(0, weights.abs().argmax(0, keepdim=True)).sign()
    return torch.einsum("cn,chw->nhw", weights, values)
