"""Between pictures and the space the network works in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from latentjac.arguments import check_dense, check_int, check_tensor, check_text
from latentjac.models.prepare import Size, as_size, fit_image, read_image
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models.model import Model

ImageInput = str | Path | Image.Image | np.ndarray | torch.Tensor

logger = logging.getLogger("latentjac")


class PixelCodec:
    """Pictures as samples in [-1, 1], for networks that work on pixels.

    The interface of every codec: ``encode`` takes pictures to samples, ``decode`` samples to pictures in
    [0, 1]. A codec of latents has the same two methods over an autoencoder.

    Attributes:
        media: What samples are decoded to: ``"pictures"``, ``"videos"`` or ``"sound"``.
        size: Height and width of a picture in pixels.
        channels: Of a picture.

    Args:
        size: Height and width, or the side of a square.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a number is out of range, or channels are others.
    """

    media = "pictures"

    def __init__(self, size: int | Size, channels: int = 3) -> None:
        self.size = as_size("PixelCodec", "size", size)
        self.channels = check_int("PixelCodec", "channels", channels, 1)
        if self.channels not in (1, 3):
            raise ValueError(f"PixelCodec: channels must be 1 (grey) or 3 (RGB), got {self.channels}")

    @public
    def encode(self, images: ImageInput | list[ImageInput], *, subject: str = "encode: images") -> torch.Tensor:
        """Samples ``[B, C, H, W]`` in [-1, 1], float32 on the CPU.

        What is done to a picture to make it fit is logged; :func:`prepare_image` says it in its notes.

        Args:
            images: One or several of: path or PIL image, see :func:`prepare_image`; array to be treated as such a
                picture, uint8 ``[H, W]`` or ``[H, W, C]`` of 1, 3 or 4 channels, uint16 or bool ``[H, W]``; float array
                ``[H, W, C]`` or ``[B, H, W, C]`` in [0, 1] of the network's size; float tensor ``[C, H, W]`` or
                ``[B, C, H, W]`` in [0, 1] of the network's size, or such a uint8 tensor.
            subject: Function and argument of the user, for messages.

        Raises:
            TypeError: If an entry is none of these.
            FileNotFoundError: If there is no file at a path.
            ValueError: If an array or tensor has another shape, dtype or range, or a picture cannot be prepared.
        """
        subject = check_text("encode", "subject", subject)
        if not isinstance(images, (list, tuple)):
            return self._encode_one(images, subject)
        if not images:
            raise ValueError(f"{subject} must be at least one picture, got an empty list")
        return torch.cat([self._encode_one(entry, f"{subject}[{i}]") for i, entry in enumerate(images)])

    def _encode_one(self, image: Any, subject: str) -> torch.Tensor:
        if isinstance(image, np.ndarray):
            image = self._from_array(image, subject)
        if isinstance(image, torch.Tensor):
            return self._encode_tensor(image, subject)
        if not isinstance(image, (str, Path, Image.Image)):
            raise TypeError(f"{subject} must be a path, PIL image, array or tensor, got {type(image).__name__}")
        prepared = fit_image(read_image(image, subject), self.size, cropped=False)
        for note in prepared.notes:
            logger.info("%s: %s", subject, note)
        picture = prepared.image.convert("L") if self.channels == 1 else prepared.image
        pixels = torch.from_numpy(np.array(picture)).reshape(*self.size, self.channels)
        return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1

    def _from_array(self, array: np.ndarray, subject: str) -> Image.Image | torch.Tensor:
        """A picture of bytes, or a tensor of floats with channels first."""
        if array.ndim == 3 and array.shape[2] == 1 and array.dtype == np.uint8:
            array = array[..., 0]
        grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16, np.bool_)
        if grey or (array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8):
            return Image.fromarray(array)
        if np.issubdtype(array.dtype, np.floating) and array.ndim in (3, 4) and array.shape[-1] == self.channels:
            with np.errstate(over="ignore"):  # Inf is refused with other values that are out of range
                native = np.ascontiguousarray(array, dtype=np.float32)
            return torch.from_numpy(native).movedim(-1, -3)
        raise ValueError(
            f"{subject} must be a float array {[*self.size, self.channels]} in [0, 1] or a uint8 array "
            f"[H, W, 3], got {array.dtype} {list(array.shape)}"
        )

    def _encode_tensor(self, image: torch.Tensor, subject: str) -> torch.Tensor:
        function, _, argument = subject.partition(": ")
        image = check_dense(function, argument, image)
        batch = image[None] if image.ndim == 3 else image
        expected = (self.channels, *self.size)
        fits = batch.ndim == 4 and tuple(batch.shape[1:]) == expected and len(batch) > 0
        if not fits or not (batch.is_floating_point() or batch.dtype == torch.uint8):
            raise ValueError(
                f"{subject} must be a float tensor [B, {', '.join(map(str, expected))}], "
                f"got {image.dtype} {list(image.shape)}"
            )
        values = batch.cpu().float()
        if batch.dtype == torch.uint8:
            values = values / 255
        low, high = values.min().item(), values.max().item()
        if not (0 <= low and high <= 1):  # so is NaN
            raise ValueError(f"{subject} must have values in [0, 1], got {_range(values)}")
        return values * 2 - 1

    @public
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, C, H, W]`` in [0, 1], float32 on the CPU, clipped.

        Raises:
            TypeError: If samples are no tensor.
            ValueError: If they are not finite floating-point samples ``[B, C, H, W]`` of the codec's channels.
        """
        samples = check_batch("decode", "samples", samples, (self.channels,))
        return self._unclipped(samples.float().cpu()).clamp(0, 1)

    def _unclipped(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures as :meth:`decode` gives them, before they are clipped to [0, 1]; see :func:`decoder_map`."""
        return samples / 2 + 0.5


@public
def decoder_map(model: Model) -> Callable[[torch.Tensor], torch.Tensor]:
    """The map from clean samples ``[B, C, H, W]`` to pictures ``[B, c, h, w]``, to be linearized.

        decode = latentjac.models.decoder_map(model)
        lin = latentjac.linearize(decode, latents)

    It is smooth: what :meth:`PixelCodec.decode` clips to [0, 1] is left as it is, and a ``VQModel`` decodes latents
    without rounding them to its codebook, which has no derivative but zero. It reads no values, has the type of the
    samples, and is not checked. The feature map ``"image"`` of a model is this one of its ``"x0"``.

    Args:
        model: With a codec that has ``_unclipped``, as :class:`PixelCodec` and :class:`LatentCodec` have.

    Raises:
        ValueError: If it has none.
    """
    decode = getattr(getattr(model, "codec", None), "_unclipped", None)
    if decode is None:
        kind = type(getattr(model, "codec", model)).__name__
        raise ValueError(f"decoder_map: model must have a codec with _unclipped, got {kind}")
    return decode


def check_batch(
    function: str, argument: str, values: Any, channels: tuple[int, ...], shape: str = "[B, C, H, W]"
) -> torch.Tensor:
    """The values without their graph; raise unless they are finite, of this shape and of as many channels."""
    # However large: samples of a network that diverged are shown as they are.
    values = check_tensor(function, argument, values, torch.finfo(torch.float64).max)
    if values.ndim != shape.count(",") + 1 or values.shape[1] not in channels or values.numel() == 0:
        known = " or ".join(map(str, channels))
        raise ValueError(f"{function}: {argument} must have shape {shape} with C = {known}, got {list(values.shape)}")
    return values


class NoCodec:
    """In place of a codec, for networks whose samples are no pictures and that came without one."""

    media = "none"
    size: Size = (0, 0)

    def encode(self, images: Any, *, subject: str = "encode: images") -> torch.Tensor:
        """Refuses pictures."""
        raise ValueError(
            f"{subject} must go to a model with a codec, got one without (Model(..., codec=...); samples themselves "
            "are taken with input_type='latent')"
        )

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Refuses samples."""
        raise ValueError(
            "decode: samples must be those of a model with a codec, got one without (Model(..., codec=...))"
        )


def media_of(model: Model) -> str:
    """What samples of a model are decoded to: ``"pictures"``, ``"videos"``, ``"sound"``, or ``"none"``."""
    return getattr(model.codec, "media", PixelCodec.media)


def decoded(model: Model, samples: torch.Tensor) -> torch.Tensor:
    """What clean samples are decoded to; where there is no codec the samples themselves, float32 on the CPU."""
    return samples.float().cpu() if media_of(model) == NoCodec.media else model.codec.decode(samples)


def stills(model: Model, decoded: torch.Tensor) -> list[Image.Image]:
    """One picture for each decoded sample: of a video its middle frame; none of what is no picture."""
    if media_of(model) not in ("pictures", "videos"):
        return []
    return to_pil(decoded if decoded.ndim == 4 else decoded[:, :, decoded.shape[2] // 2])


def _range(values: torch.Tensor) -> str:
    """What values there are, or which are no numbers."""
    wrong = int((~torch.isfinite(values)).sum())
    return f"{wrong} NaN or Inf" if wrong else f"[{values.min().item():.4g}, {values.max().item():.4g}]"


@public
def to_pil(pictures: torch.Tensor) -> list[Image.Image]:
    """PIL images of pictures.

    Args:
        pictures: ``[B, C, H, W]`` in [0, 1], with C = 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        TypeError: If pictures are no tensor.
        ValueError: If their shape, type or values are others.
    """
    return _eight_bit("to_pil", "pictures", check_batch("to_pil", "pictures", pictures, (1, 3, 4)))


@public
def to_frames(videos: torch.Tensor) -> list[list[Image.Image]]:
    """The frames of each video as PIL images.

    Args:
        videos: ``[B, C, F, H, W]`` in [0, 1], with C = 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        TypeError: If videos are no tensor.
        ValueError: If their shape, type or values are others.
    """
    values = check_batch("to_frames", "videos", videos, (1, 3, 4), "[B, C, F, H, W]")
    frames = _eight_bit("to_frames", "videos", values.transpose(1, 2).flatten(0, 1))
    return [frames[i : i + values.shape[2]] for i in range(0, len(frames), values.shape[2])]


def _eight_bit(function: str, argument: str, values: torch.Tensor) -> list[Image.Image]:
    values = values.float()
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{function}: {argument} must have values in [0, 1], got {_range(values)}")
    pixels = (values * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pixels]
