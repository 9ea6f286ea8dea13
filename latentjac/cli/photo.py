"""The photo of a run and the mask drawn on it, read before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from latentjac.cli.refusals import Refusal, refusing
from latentjac.models import PreparedImage
from latentjac.models.prepare import crop_image, inside_of, read_image, read_mask, resize_image
from latentjac.report.extras import require_matplotlib

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """A photo that was read.

    Attributes:
        file: Where it came from.
        size: Width and height of the whole photo, upright, in pixels.
        crop: Box that was asked for.
        cropped: What of it is used, not of the model's size yet.
    """

    file: Path
    size: tuple[int, int]
    crop: Box | None
    cropped: PreparedImage


@dataclass(frozen=True)
class Mask:
    """A mask that was read; ``drawn_on_photo`` says whether it is of the photo's size, and was cropped like it."""

    grey: PreparedImage
    drawn_on_photo: bool


def read_photo(option: str, file: Path, crop: Box | None) -> Picture:
    """Read a photo; raise for what cannot be read, or could not be drawn later.

    Args:
        option: Where it comes from, for messages.
        file: The file.
        crop: Box in pixels of the upright photo.
    """
    require_matplotlib()
    with refusing():
        read = read_image(file, option)
        return Picture(file, read.image.size, crop, crop_image(read, crop, option))


def open_mask(file: Path, picture: Picture) -> Mask:
    """Read a mask of the photo's size, or of one that only the model can have."""
    with refusing():
        grey = read_mask(file, "--mask")
        if grey.image.size == picture.size:
            return Mask(crop_image(grey, picture.crop, "--mask"), drawn_on_photo=True)
    if grey.image.size[0] != grey.image.size[1]:
        raise _wrong_size(grey, picture, "square, as the model's are")
    return Mask(grey, drawn_on_photo=False)


def fit_mask(mask: Mask, picture: Picture, sample_size: int, picture_size: int) -> torch.Tensor:
    """Where a mask is inside, bool at sample size; raise where it has neither the photo's size nor the model's."""
    if not mask.drawn_on_photo and mask.grey.image.size[0] not in (sample_size, picture_size):
        sizes = " or ".join(f"{size}x{size}" for size in sorted({sample_size, picture_size}))
        raise _wrong_size(mask.grey, picture, f"{sizes}, as the model's are")
    fitted = resize_image(mask.grey, sample_size)
    inside = torch.from_numpy(inside_of(fitted.image))
    for note in (*fitted.notes, f"{inside.float().mean().item():.1%} of the picture is inside"):
        print(f"mask: {note}")
    return inside


def _wrong_size(mask: PreparedImage, picture: Picture, others: str) -> Refusal:
    width, height = picture.size
    got = "x".join(map(str, mask.image.size))
    return Refusal(f"--mask must be {width}x{height} pixels, as the photo is, or {others}, got {got}")
