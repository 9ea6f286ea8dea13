"""Any picture as an RGB one of the network's size, or as a mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from latentjac.arguments import check_int, is_int, shown
from latentjac.models.colours import to_rgb
from latentjac.models.picture_files import identify, load_image

_ORIENTATION = 0x0112  # in EXIF; 2 to 8 are flips and turns
_MOST_SIZE = 16384  # of a side

Box = tuple[int, int, int, int]
Size = tuple[int, int]  # height and width, as of tensors


@dataclass(frozen=True)
class PreparedImage:
    """A picture and what was done to get it.

    Attributes:
        image: RGB, of the size that was asked for, from :func:`prepare_image`.
        notes: One sentence per change, in order; empty if the input was used as it is.
    """

    image: Image.Image
    notes: list[str] = field(default_factory=list)


def prepare_image(image: str | Path | Image.Image, size: int | Size, crop: Box | None = None) -> PreparedImage:
    """Turn any picture into an RGB one of the network's size.

    Takes the first frame, applies the EXIF orientation, scales numbers of more than 8 bits, converts colours to sRGB by
    the embedded profile, lays transparent parts over white, crops and resizes. Each of these leaves a note.

    Args:
        image: Picture or its file.
        size: Height and width of the result in pixels, each at most 16384, or the side of a square.
        crop: Box ``(left, top, right, bottom)`` in pixels of the upright picture; by default the largest one in its
            middle that has the shape of the result. A box of another shape is distorted.

    Raises:
        TypeError: If image is neither a picture nor a path, or size is neither an int nor two.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no picture, the picture has NaN or Inf, or the box is empty or outside.

    Example:
        >>> prepared = latentjac.prepare_image("photo.jpg", 16)
        >>> prepared.image.size
        (16, 16)
    """
    size = as_size("prepare_image", "size", size)
    read = read_image(image, "prepare_image: image")
    return fit_image(read if crop is None else crop_image(read, crop, "prepare_image"), size, cropped=crop is not None)


def as_size(function: str, argument: str, size: Any, most: int = _MOST_SIZE) -> Size:
    """Height and width of a size in either form; errors name function and argument."""
    if not isinstance(size, (tuple, list)):
        side: int = check_int(function, argument, size, 1, most)
        return side, side
    if len(size) != 2 or not all(map(is_int, size)):
        raise ValueError(f"{function}: {argument} must be (height, width) or the side of a square, got {shown(size)}")
    height, width = (check_int(function, argument, length, 1, most) for length in size)
    return height, width


def read_image(image: Any, subject: str) -> PreparedImage:
    """A picture upright and as RGB, whole.

    Args:
        image: Picture or its file.
        subject: Function and argument of the user, for messages.
    """
    upright, notes = _upright(image, subject)
    rgb, converted = to_rgb(upright, subject)
    return PreparedImage(rgb, notes + converted)


def crop_image(prepared: PreparedImage, crop: Box, function: str) -> PreparedImage:
    """The part of a picture that was read inside a box.

    Raises:
        ValueError: If the box is empty or outside.
    """
    return _part(prepared, _checked_box(crop, *prepared.image.size, function))


def fit_image(prepared: PreparedImage, size: Size, *, cropped: bool) -> PreparedImage:
    """A picture that was read, at the network's size; unless it was cropped before, of its shape first."""
    if not cropped:
        prepared = _part(prepared, middle_box(*prepared.image.size, size))
    image, (height, width) = prepared.image, size
    if image.size == (width, height):
        return prepared
    note = f"resized from {image.size[0]}x{image.size[1]} to {width}x{height}"
    return PreparedImage(image.resize((width, height), Image.Resampling.LANCZOS), [*prepared.notes, note])


def _part(prepared: PreparedImage, box: Box) -> PreparedImage:
    image = prepared.image
    width, height = image.size
    left, top, right, bottom = box
    if box == (0, 0, width, height):
        return prepared
    # Not Image.crop: it refuses boxes of more pixels than Pillow's limit.
    part = Image.fromarray(np.asarray(image)[top:bottom, left:right])
    return PreparedImage(part, [*prepared.notes, f"cropped from {width}x{height} to the box {box}"])


def read_mask(mask: Any, subject: str) -> PreparedImage:
    """A mask as grey, upright: white is inside; transparent parts are outside, as black ones are.

    Args:
        mask: Picture or its file.
        subject: Function and argument of the user, for messages.

    Raises:
        TypeError: If mask is neither a picture nor a path.
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no picture, or the picture has NaN or Inf.
    """
    upright, notes = _upright(mask, subject)
    rgb, converted = to_rgb(upright, subject, behind="black")
    grey = rgb.convert("L")
    notes += [note for note in converted if "mode" not in note]
    soft = float(((np.asarray(grey) > 0) & (np.asarray(grey) < 255)).mean())
    if soft:
        notes.append(f"{soft:.0%} of it is neither black nor white: what is brighter than half counts as inside")
    return PreparedImage(grey, notes)


def inside_of(mask: Image.Image) -> np.ndarray:
    """Where a grey mask is brighter than half, bool ``[H, W]``."""
    return np.asarray(mask) > 127


def _upright(image: Any, subject: str) -> tuple[Image.Image, list[str]]:
    """The first frame of a picture or its file as it is meant to be seen."""
    if isinstance(image, (str, Path)):
        image = identify(image, subject)
    if not isinstance(image, Image.Image):
        raise TypeError(f"{subject} must be a PIL image or a path, got {type(image).__name__}")
    if 0 in image.size:
        raise ValueError(f"{subject} must have pixels, got size {image.size[0]}x{image.size[1]}")
    notes = []
    frames, turned = _frames(image), _turned(image)  # before pixels are read: Pillow turns some formats then
    if frames > 1:
        at = image.tell()
        notes.append(f"took the first of {frames} frames" if at == 0 else f"took frame {at + 1} of {frames}")
    load_image(image, subject)
    if turned:
        notes.append("turned upright by its EXIF orientation")
        image = ImageOps.exif_transpose(image)
    return image, notes


def _frames(image: Image.Image) -> int:
    if image.format == "PSD":  # whose frames are layers; Pillow gives all of them together
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        # Counting reads on in the file, whose end may be missing.
        return 1


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:
        # EXIF that cannot be read turns nothing.
        return False


def middle_box(width: int, height: int, size: Size) -> Box:
    """The largest box in the middle of a picture that has the shape of a size, to the nearest pixel."""
    tall, wide = size
    if width * tall >= height * wide:
        across, down = max(1, (2 * height * wide + tall) // (2 * tall)), height
    else:
        across, down = width, max(1, (2 * width * tall + wide) // (2 * wide))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _checked_box(crop: Any, width: int, height: int, function: str) -> Box:
    if not isinstance(crop, (tuple, list)) or len(crop) != 4 or not all(map(is_int, crop)):
        raise ValueError(f"{function}: crop must be four ints (left, top, right, bottom), got {shown(crop)}")
    left, top, right, bottom = map(int, crop)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"{function}: crop must be a box inside {width}x{height}, got {shown(tuple(crop))}")
    return left, top, right, bottom
