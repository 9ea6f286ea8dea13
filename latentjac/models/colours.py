"""Pictures of any mode as RGB ones, and what was done to them on the way."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# One channel of numbers that need not fit into 8 bits.
_NUMBERS = ("I", "F")
_DISPLAY = 1 / 2.2
_SAME = 2  # grey levels that a conversion of colours may differ by and still count as none


def to_rgb(image: Image.Image, subject: str, behind: str = "white") -> tuple[Image.Image, list[str]]:
    """An RGB picture with a sentence for each change.

    Numbers of more than 8 bits are scaled, transparent parts are laid over a colour, colours are converted to sRGB.

    Args:
        image: A picture with pixels.
        subject: Function and argument of the user, for messages.
        behind: Colour behind transparent parts.

    Raises:
        ValueError: If the picture has NaN or Inf, cannot be scaled, or is of a mode that Pillow cannot convert.
    """
    notes = []
    colour = image
    if image.mode in _NUMBERS or image.mode.startswith("I;16"):
        colour, note = _scaled(image, subject)
        notes.append(note)
    try:
        alpha = _alpha(image, colour)
        colour, converted = _to_srgb(_without_alpha(colour), image.info)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(
            f"{subject} must be of a mode that Pillow converts to RGB, got {image.mode} ({error})"
        ) from error
    notes += converted
    rgb = colour.convert("RGB")
    if alpha is not None and alpha.getextrema()[0] != 255:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, behind), alpha)
        notes.append(f"laid its transparent parts over {behind}")
    if image.mode != "RGB":
        notes.append(f"converted from mode {image.mode} to RGB")
    return rgb, notes


def _without_alpha(image: Image.Image) -> Image.Image:
    """The colours alone, as L, RGB or CMYK."""
    if image.mode in ("1", "L", "LA", "La"):
        return (image.convert("LA") if image.mode == "La" else image).convert("L")
    if image.mode in ("RGB", "CMYK"):
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")  # a palette loses its transparent colours otherwise
    return image.convert("RGB")


def _alpha(image: Image.Image, colour: Image.Image) -> Image.Image | None:
    """How opaque each pixel is, as L; None where all are."""
    if colour is not image:  # scaled numbers; Pillow knows no transparency of theirs
        key = image.info.get("transparency")
        return None if not isinstance(key, int) else Image.fromarray((np.asarray(image) != key).astype(np.uint8) * 255)
    if not image.has_transparency_data:
        return None
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA").getchannel("A")


def _scaled(image: Image.Image, subject: str) -> tuple[Image.Image, str]:
    """Numbers as 8-bit grey, and on which scale they were read."""
    values = np.asarray(image).astype(np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{subject} must be finite, got {int(np.isnan(values).sum())} NaN and "
            f"{int(np.isinf(values).sum())} Inf, the first at row {row}, column {column}"
        )
    low, high = float(values.min()), float(values.max())
    black, white = _scale(image.mode, low, high)
    if black == white:
        raise ValueError(f"{subject} must have values in [0, 65535] or different ones, got {low:g} everywhere")
    grey = np.clip((values - black) / (white - black) * 255, 0, 255)
    note = f"read its values, {low:g} to {high:g}, on the scale from {black:g} (black) to {white:g} (white)"
    if high > white:
        note += f", with {int((values > white).sum())} above it clipped"
    return Image.fromarray(np.round(grey).astype(np.uint8)), note


def _scale(mode: str, low: float, high: float) -> tuple[float, float]:
    """Which numbers are black and white; only 16-bit modes say their range, others have only their values to go by."""
    if mode == "F" and low >= -1 and high <= 1:
        return (-1.0, 1.0) if low < 0 else (0.0, 1.0)
    if mode == "F" and low >= 0 and high <= 2:
        return 0.0, 1.0  # 8-bit values would be nearly black; resampling overshoots like this
    if low < 0 or high > 65535:
        return low, high
    if high <= 255 and mode in _NUMBERS:
        return 0.0, 255.0
    # Cameras and scanners write 10 and 12 bits into files of 16.
    return 0.0, next((top for top in (1023.0, 4095.0) if 255 < high <= top), 65535.0)


def _to_srgb(colour: Image.Image, info: dict) -> tuple[Image.Image, list[str]]:
    """Colours for an ordinary screen, by what a file says of its own."""
    profile, gamma = info.get("icc_profile"), info.get("gamma")
    if profile:
        return _from_profile(colour, profile)
    if isinstance(gamma, float) and "srgb" not in info and 0.01 < gamma < 10 and abs(gamma / _DISPLAY - 1) > 0.05:
        table = [round(255 * (level / 255) ** (_DISPLAY / gamma)) for level in range(256)]
        return colour.point(table * len(colour.getbands())), [f"converted from gamma {gamma:g} to that of screens"]
    return colour, []


def _from_profile(colour: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    """Colours of an embedded profile as sRGB; nothing is said where that changes next to nothing."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and colour.mode == "L":
            colour = colour.convert("RGB")
        if {"GRAY": "L"}.get(space, space) != colour.mode:
            raise ValueError(f"it is one of {space}")
        converted = ImageCms.profileToProfile(colour, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        name = " ".join(ImageCms.getProfileDescription(source).split())
    except Exception as error:
        # Profiles are written by anybody; what one that is broken raises depends on the version of the library.
        return colour, [f"ignored its colour profile, which does not fit ({' '.join(str(error).split())})"]
    assert converted is not None  # not in place
    change = np.asarray(converted).astype(int) - np.asarray(colour.convert("RGB"))
    if np.abs(change).max() <= _SAME:
        return colour, []
    return converted, [f"converted from its colour profile {name!r} to sRGB"]
