"""Masks of items: read beside their photos, and brought to the size of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from latentjac.batch.mask_spec import MaskOf
from latentjac.batch.work import Work
from latentjac.models import Model
from latentjac.models.prepare import PreparedImage, Size, fit_image, inside_of, read_mask


@dataclass(frozen=True)
class OwnMask:
    """The mask of an item, as it was read.

    Attributes:
        grey: It; None where it could not be read.
        photo: Height and width of the item's photo as it was; None where there is none.
        error: Why it could not be read.
    """

    grey: PreparedImage | None = None
    photo: Size | None = None
    error: str | None = None


def read_own(path: Path | None, column: str, photo: Size | None) -> OwnMask:
    """The mask of an item.

    Args:
        path: Its file; None where the table has none.
        column: Of the table.
        photo: Height and width of the photo, if there is one.
    """
    if path is None:
        return OwnMask(error=f"mask must be a picture file, got none in column {column!r}")
    try:
        return OwnMask(read_mask(path, "mask"), photo)
    except Exception as error:  # whatever a broken file leads a decoder to
        return OwnMask(error=" ".join(str(error).split()) or type(error).__name__)


def masks_for(mask: MaskOf, model: Model, works: Sequence[Work]) -> list[torch.Tensor]:
    """The mask of each of some items at the size of samples, bool ``[H, W]``.

    Raises:
        ValueError: If one could not be read, or has neither the size of its photo nor one of the model's.
    """
    if mask.column is None:
        return [mask_for_all(mask, model)] * len(works)
    return [_own(work.masks[mask.column], model) for work in works]


def mask_for_all(mask: MaskOf, model: Model) -> torch.Tensor:
    """The mask of a file at the size of samples, bool ``[H, W]``.

    Raises:
        ValueError: If it has neither the size of samples nor that of pictures.
    """
    return _fitted(read_mask(mask.file, "mask"), model, None)


def _own(read: OwnMask, model: Model) -> torch.Tensor:
    if read.grey is None:
        raise ValueError(read.error)
    return _fitted(read.grey, model, read.photo)


def _fitted(grey: PreparedImage, model: Model, photo: Size | None) -> torch.Tensor:
    """A mask that was drawn on a photo loses what the photo loses, others are only resized."""
    sample, picture = (model.sample_shape[-2], model.sample_shape[-1]), model.codec.size
    there = grey.image.size[::-1]
    if there not in (sample, picture, photo):
        own = "" if photo is None else f"{photo[1]}x{photo[0]} pixels, as its photo is, or "
        sizes = " or ".join(f"{width}x{height}" for height, width in sorted({sample, picture}))
        got = "x".join(map(str, grey.image.size))
        raise ValueError(f"mask must be {own}{sizes} pixels, as the model's are, got {got}")
    fitted = fit_image(grey, sample, cropped=there != photo)
    return torch.from_numpy(inside_of(fitted.image).copy())
