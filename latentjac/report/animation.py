"""Walks, and videos, as animated GIFs."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from latentjac.arguments import check_int, check_kind

MOST_PIXELS = 8192  # along a side
_COLOURS = 256
_LONGEST = 655_350  # milliseconds that GIF can hold


def walk_gif(images: Sequence[Image.Image], *, side: int = 256, milliseconds: int = 80, pause: int = 480) -> bytes:
    """An endless GIF that goes through pictures and back.

    All frames share one palette and are not dithered: patterns that differ from frame to frame would flicker.

    Args:
        images: At least two, of one size.
        side: Shorter side of the GIF in pixels, at most 8192; smaller pictures are enlarged to it smoothly, larger ones
            are kept.
        milliseconds: Time of a frame; GIF has steps of 10.
        pause: Time of the first and the last frame.

    Returns:
        The content of a GIF file.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are not at least two pictures of one size, or a number is out of range.
    """
    milliseconds = check_int("walk_gif", "milliseconds", milliseconds, 1, _LONGEST)
    pause = check_int("walk_gif", "pause", pause, 1, _LONGEST)
    frames = _frames("walk_gif", images, side)
    durations = [pause] + [milliseconds] * (len(frames) - 2) + [pause]
    return _gif(frames + frames[-2:0:-1], durations + durations[-2:0:-1])


def video_gif(images: Sequence[Image.Image], *, side: int = 256, milliseconds: int = 80) -> bytes:
    """An endless GIF of the frames of a video, from the first to the last, as of :func:`walk_gif`.

        frames = latentjac.diffusion.render(model, samples, "pil")[0]
        latentjac.files.write_bytes("video.gif", latentjac.report.video_gif(frames))

    Args:
        images: The frames, at least two, of one size.
        side: Shorter side of the GIF in pixels, at most 8192; smaller frames are enlarged to it smoothly, larger ones
            are kept.
        milliseconds: Time of a frame; GIF has steps of 10.

    Returns:
        The content of a GIF file.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are not at least two frames of one size, or a number is out of range.
    """
    milliseconds = check_int("video_gif", "milliseconds", milliseconds, 1, _LONGEST)
    frames = _frames("video_gif", images, side)
    return _gif(frames, [milliseconds] * len(frames))


def _frames(name: str, images: Sequence[Image.Image], side: int) -> list[Image.Image]:
    """Pictures of one palette, enlarged to a side; of arguments that are checked here."""
    check_kind(name, "images", images, (list, tuple), "a list of PIL images")
    for i, image in enumerate(images):
        check_kind(name, f"images[{i}]", image, Image.Image, "a PIL image")
        if 0 in image.size:
            raise ValueError(f"{name}: images[{i}] must have pixels, got size {image.size[0]}x{image.size[1]}")
    side = check_int(name, "side", side, 1, MOST_PIXELS)
    if len({image.size for image in images}) != 1 or len(images) < 2:
        sizes = sorted({image.size for image in images})
        raise ValueError(f"{name}: images must be at least two of one size, got {len(images)} of sizes {sizes}")
    pictures = [image.convert("RGB") for image in images]
    palette = _common_palette(pictures)
    return [_enlarged(p, side).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]


def _gif(frames: list[Image.Image], durations: list[int]) -> bytes:
    buffer = BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=1, optimize=False
    )
    return buffer.getvalue()


def _enlarged(image: Image.Image, side: int) -> Image.Image:
    factor = max(1.0, side / min(image.size))
    width, height = (round(length * factor) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _common_palette(images: Sequence[Image.Image]) -> Image.Image:
    """A picture with the palette that suits all of them together."""
    width, height = images[0].size
    together = Image.new("RGB", (width, height * len(images)))
    for i, image in enumerate(images):
        together.paste(image, (0, i * height))
    return together.quantize(_COLOURS, Image.Quantize.MEDIANCUT, kmeans=3)
