"""The photo of a run and the mask drawn on it, read before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from latentjac.cli.refusals import Refusal, refusing
from latentjac.models import PreparedImage
from latentjac.models.prepare import Size, crop_image, fit_image, inside_of, read_image, read_mask
from latentjac.report.extras import require_matplotlib

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """A photo that was read.

    Attributes:
        file: Where it came from.
        size: Width and height of the whole photo, upright, in pixels.
        crop: Box that was asked for.
        part: What of it is inside that box; the whole photo without one.
    """

    file: Path
    size: tuple[int, int]
    crop: Box | None
    part: PreparedImage

    def fitted(self, size: Size) -> PreparedImage:
        """It at a size, cropped to the shape of that unless there is a box."""
        return fit_image(self.part, size, cropped=self.crop is not None)


@dataclass(frozen=True)
class Mask:
    """A mask that was read; ``drawn_on_photo`` says whether it is of the photo's size, and is to be cropped like it."""

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
        return Picture(file, read.image.size, crop, read if crop is None else crop_image(read, crop, option))


def open_mask(file: Path, picture: Picture, option: str = "--mask") -> Mask:
    """Read a mask of the photo's size, or of another: only the model says whether it can be used."""
    with refusing():
        grey = read_mask(file, option)
        if grey.image.size != picture.size:
            return Mask(grey, drawn_on_photo=False)
        part = grey if picture.crop is None else crop_image(grey, picture.crop, option)
        return Mask(part, drawn_on_photo=True)


def fit_mask(mask: Mask, picture: Picture, sample_size: Size, picture_size: Size) -> torch.Tensor:
    """Where a mask is inside, bool at sample size; raise where it has neither the photo's size nor the model's."""
    if not mask.drawn_on_photo and mask.grey.image.size[::-1] not in (sample_size, picture_size):
        sizes = " or ".join(f"{width}x{height}" for height, width in sorted({sample_size, picture_size}))
        raise _wrong_size(mask.grey, picture, f"{sizes}, as the model's are")
    fitted = fit_image(mask.grey, sample_size, cropped=not mask.drawn_on_photo or picture.crop is not None)
    inside = torch.from_numpy(inside_of(fitted.image))
    for note in (*fitted.notes, f"{inside.float().mean().item():.1%} of the picture is inside"):
        print(f"mask: {note}")
    return inside


def _wrong_size(mask: PreparedImage, picture: Picture, others: str) -> Refusal:
    width, height = picture.size
    got = "x".join(map(str, mask.image.size))
    return Refusal(f"--mask must be {width}x{height} pixels, as the photo is, or {others}, got {got}")
