"""Between pictures and the space the network works in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

_MOST_PIXELS = 600_000_000

ImageInput = str | Path | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class PreparedImage:
    """A square RGB picture and what was done to get it.

    Attributes:
        image: RGB, size x size pixels.
        notes: One sentence per change, in order; empty if the input was used as it is.
    """

    image: Image.Image
    notes: list[str] = field(default_factory=list)


def open_image(path: str | Path) -> Image.Image:
    """Open a picture file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a picture that Pillow can read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"image: expected a picture file, got {str(path)!r}, which does not exist")
    limit = Image.MAX_IMAGE_PIXELS
    try:
        # Phones take photos of 200 million pixels, which Pillow would refuse as a decompression bomb.
        Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2
        image = Image.open(path)
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image: expected a picture file, got {str(path)!r} ({error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return image


def prepare_image(
    image: str | Path | Image.Image, size: int, crop: tuple[int, int, int, int] | None = None
) -> PreparedImage:
    """Turn any picture into a square RGB one of the network's size.

    Applies the EXIF orientation, converts any mode to RGB (transparency over white), crops and resizes.

    Args:
        image: Picture or its file.
        size: Side of the result in pixels.
        crop: Box ``(left, top, right, bottom)`` in pixels of the upright picture; the centred square by default.

    Raises:
        TypeError: If image is neither a picture nor a path.
        ValueError: If the file is no picture or the box is empty or outside.
    """
    if isinstance(image, (str, Path)):
        image = open_image(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"image: expected a PIL image or a path, got {type(image).__name__}")
    if 0 in image.size:
        raise ValueError(f"image: expected a picture with pixels, got size {image.size[0]}x{image.size[1]}")
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"took the first of {image.n_frames} frames")  # type: ignore[attr-defined]
    upright = ImageOps.exif_transpose(image)
    if image.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright by its EXIF orientation")
    rgb = _to_rgb(upright)
    if upright.mode != "RGB":
        notes.append(f"converted from mode {upright.mode} to RGB")
    width, height = rgb.size
    if crop is None:
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
    else:
        box = _check_box(crop, width, height)
    if box != (0, 0, width, height):
        notes.append(f"cropped from {width}x{height} to the box {box}")
        rgb = rgb.crop(box)
    if rgb.size != (size, size):
        notes.append(f"resized from {rgb.size[0]}x{rgb.size[1]} to {size}x{size}")
        rgb = rgb.resize((size, size), Image.Resampling.LANCZOS)
    return PreparedImage(rgb, notes)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow clips these at 255. 16-bit modes say their range; the others have only their values to go by.
        values = np.asarray(image, dtype=np.float64)
        largest = 65535.0 if image.mode.startswith("I;16") else values.max(initial=0)
        top = 65535.0 if largest > 255 else 1.0 if image.mode == "F" and largest <= 1 else 255.0
        return Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8), "L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _check_box(crop: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    if not isinstance(crop, (tuple, list)) or len(crop) != 4 or not all(isinstance(c, int) for c in crop):
        raise ValueError(f"crop: expected four ints (left, top, right, bottom), got {crop!r}")
    left, top, right, bottom = crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(f"crop: expected a box inside {width}x{height}, got {tuple(crop)}")
    return left, top, right, bottom


class PixelCodec:
    """Pictures as samples in [-1, 1], for networks that work on pixels.

    The interface of every codec: ``encode`` takes pictures to samples, ``decode`` samples to pictures in
    [0, 1]. A codec of latents has the same two methods over an autoencoder.
    """

    def __init__(self, size: int, channels: int = 3) -> None:
        self.size, self.channels = size, channels

    def encode(self, images: ImageInput | list[ImageInput]) -> torch.Tensor:
        """Samples ``[B, C, H, W]`` in [-1, 1], float32 on the CPU.

        Args:
            images: One or several of: path, PIL image (prepared by :func:`prepare_image`), uint8 array
                ``[H, W, 3]``, float tensor ``[C, H, W]`` or ``[B, C, H, W]`` in [0, 1] of the network's size.

        Raises:
            TypeError: If an entry is none of these.
            ValueError: If an array or tensor has another shape, dtype or range.
        """
        entries = images if isinstance(images, list) else [images]
        if not entries:
            raise ValueError("image: expected at least one picture, got an empty list")
        return torch.cat([self._encode_one(entry) for entry in entries])

    def _encode_one(self, image: Any) -> torch.Tensor:
        if isinstance(image, torch.Tensor):
            return self._encode_tensor(image)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"image: expected a uint8 array [H, W, 3], got {image.dtype} {list(image.shape)}")
            image = Image.fromarray(image)
        if not isinstance(image, (str, Path, Image.Image)):
            raise TypeError(f"image: expected a path, PIL image, array or tensor, got {type(image).__name__}")
        prepared = prepare_image(image, self.size).image
        if self.channels == 1:
            prepared = prepared.convert("L")
        pixels = torch.from_numpy(np.array(prepared)).reshape(self.size, self.size, self.channels)
        return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1

    def _encode_tensor(self, image: torch.Tensor) -> torch.Tensor:
        batch = image[None] if image.ndim == 3 else image
        expected = (self.channels, self.size, self.size)
        if batch.ndim != 4 or tuple(batch.shape[1:]) != expected or not batch.is_floating_point():
            raise ValueError(
                f"image: expected a float tensor [B, {', '.join(map(str, expected))}], "
                f"got {image.dtype} {list(image.shape)}"
            )
        if not torch.isfinite(batch).all() or batch.min() < 0 or batch.max() > 1:
            raise ValueError(
                f"image: expected values in [0, 1], got [{batch.min().item():.4g}, {batch.max().item():.4g}]"
            )
        return batch.detach().float().cpu() * 2 - 1

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, C, H, W]`` in [0, 1], float32 on the CPU, clipped."""
        return (samples.detach().float().cpu() / 2 + 0.5).clamp(0, 1)


def to_pil(pictures: torch.Tensor) -> list[Image.Image]:
    """PIL images of pictures ``[B, C, H, W]`` in [0, 1]."""
    pixels = (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pixels]
