"""Between videos and the space that a network works in: frames as they are, or latents of fewer of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence

from latentjac.arguments import check_dense, check_int, check_text, is_int, shown
from latentjac.models.autoencoders import Scaling, in_parts, latent_channels, video_kind_of
from latentjac.models.codec import PixelCodec, check_batch
from latentjac.models.layers import run
from latentjac.models.picture_files import identify
from latentjac.models.prepare import Size, as_size
from latentjac.public import public

MOST_FRAMES = 2048
_FRAMES_AT_ONCE = 16  # of those that autoencoders of pictures take one by one
_SHAPE = "[B, C, F, H, W]"


class VideoCodec:
    """Videos as samples ``[B, C, F, H, W]`` in [-1, 1], for networks that work on pixels of frames.

    The interface of :class:`PixelCodec`; each frame is fitted as a picture is.

    Attributes:
        media: ``"videos"``.
        frames: How many a video has.
        size: Height and width of a frame in pixels.
        channels: Of a frame.

    Args:
        size: Frames, height and width.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a number is out of range, or channels are others.
    """

    media = "videos"

    def __init__(self, size: tuple[int, ...], channels: int = 3) -> None:
        self.frames, self.size = as_video("VideoCodec", "size", size)
        self._pixels = PixelCodec(self.size, channels)
        self.channels = self._pixels.channels

    @public
    def encode(self, videos: Any, *, subject: str = "encode: videos") -> torch.Tensor:
        """Samples ``[B, C, F, H, W]`` in [-1, 1], float32 on the CPU.

        Args:
            videos: A video or a list of several. A video is a list of frames, each what :meth:`PixelCodec.encode`
                takes; an animated picture (GIF, WebP, APNG) or its path; a uint8 array ``[F, H, W, C]`` of any height
                and width; a float array ``[F, H, W, C]`` or ``[B, F, H, W, C]`` in [0, 1] of the network's size; or a
                tensor ``[C, F, H, W]`` or ``[B, C, F, H, W]`` of this size, float in [0, 1] or uint8.
            subject: Function and argument of the user, for messages.

        Raises:
            TypeError: If an entry is none of these.
            FileNotFoundError: If there is no file at a path.
            ValueError: If a video has another number of frames, or a frame cannot be used.
        """
        subject = check_text("encode", "subject", subject)
        if not isinstance(videos, (list, tuple)) or _is_video(videos):
            return self._encode_one(videos, subject)
        if not videos:
            raise ValueError(f"{subject} must be at least one video, got an empty list")
        return torch.cat([self._encode_one(video, f"{subject}[{i}]") for i, video in enumerate(videos)])

    def _encode_one(self, video: Any, subject: str) -> torch.Tensor:
        if isinstance(video, np.ndarray) and np.issubdtype(video.dtype, np.floating) and video.ndim in (4, 5):
            with np.errstate(over="ignore"):  # Inf is refused with other values that are out of range
                video = torch.from_numpy(np.ascontiguousarray(video, dtype=np.float32)).movedim(-1, -4)
        if isinstance(video, torch.Tensor):
            return self._encode_tensor(video, subject)
        if not isinstance(video, (list, tuple)):
            video = _frames_of(video, subject)
        if len(video) != self.frames:
            raise ValueError(f"{subject} must have {self.frames} frames, got {len(video)}")
        frames = [self._pixels.encode(frame, subject=f"{subject}[{i}]") for i, frame in enumerate(video)]
        return torch.stack(frames, dim=2)

    def _encode_tensor(self, video: torch.Tensor, subject: str) -> torch.Tensor:
        function, _, argument = subject.partition(": ")
        video = check_dense(function, argument, video)
        batch = video[None] if video.ndim == 4 else video
        expected = (self.channels, self.frames, *self.size)
        if batch.ndim != 5 or tuple(batch.shape[1:]) != expected or len(batch) == 0:
            raise ValueError(
                f"{subject} must be a float tensor [B, {', '.join(map(str, expected))}], "
                f"got {video.dtype} {list(video.shape)}"
            )
        frames = self._pixels.encode(batch.transpose(1, 2).flatten(0, 1), subject=subject)
        return frames.unflatten(0, (-1, self.frames)).transpose(1, 2)

    @public
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Videos ``[B, C, F, H, W]`` in [0, 1], float32 on the CPU, clipped.

        Raises:
            TypeError: If samples are no tensor.
            ValueError: If they are not finite floating-point samples ``[B, C, F, H, W]`` of the codec's channels.
        """
        samples = check_batch("decode", "samples", samples, (self.channels,), _SHAPE)
        return self._unclipped(samples.float().cpu()).clamp(0, 1)

    def _unclipped(self, samples: torch.Tensor) -> torch.Tensor:
        """Videos as :meth:`decode` gives them, before they are clipped; see :func:`decoder_map`."""
        return samples / 2 + 0.5


class VideoLatentCodec:
    """Videos as scaled latents ``[B, C, f, h, w]`` of an autoencoder, for networks that work on those.

    The same interface as :class:`VideoCodec`. Encoding takes the mode of the posterior. The autoencoders are causal in
    time: the first latent is of the first frame alone, and each further one of the next ``r`` frames, so that a video
    of F frames has ``f = (F - 1) / r + 1``.

    Attributes:
        media: ``"videos"``.
        frames: How many a video has.
        size: Height and width of a frame in pixels.
        channels: Of a frame.
        latent_channels: Of a sample.
        autoencoder: Its network, in evaluation mode, gradients off.

    Args:
        autoencoder: Of diffusers, of a class in ``latentjac.models.autoencoders.VIDEO_KINDS``.
        latent_size: Frames, height and width of a latent.

    Raises:
        TypeError: If the autoencoder is of another class, or the size none.
        ValueError: If numbers of its configuration do not fit together, or the size is out of range.
    """

    media = "videos"

    def __init__(self, autoencoder: Any, latent_size: tuple[int, int, int]) -> None:
        kind = video_kind_of(autoencoder)
        frames, (height, width) = as_video("VideoLatentCodec", "latent_size", latent_size)
        time, space = kind.factors(autoencoder)
        if (frames - 1) % kind.together:
            raise ValueError(
                f"VideoLatentCodec: latent_size must have a multiple of {kind.together} frames, and 1, for "
                f"{type(autoencoder).__name__}, got {frames}"
            )
        self.frames, self.size = (frames - 1) * time + 1, (height * space, width * space)
        self._pixels = VideoCodec((self.frames, *self.size), autoencoder.config.in_channels)
        self.channels, self.latent_channels = self._pixels.channels, latent_channels(autoencoder)
        self._scaling = Scaling(kind.scaling(autoencoder), self.latent_channels, dims=3)
        self.autoencoder = autoencoder.eval().requires_grad_(False)

    @public
    @torch.no_grad()
    def encode(self, videos: Any, *, subject: str = "encode: videos") -> torch.Tensor:
        """Latents ``[B, C, f, h, w]``, float32 on the CPU; takes and refuses what :meth:`VideoCodec.encode` does.

        Raises:
            NonFiniteError: If the autoencoder gives NaN or Inf, as some do in float16.
        """
        # Videos are large: one at a time.
        return in_parts("encode", self.autoencoder, self._encode, self._pixels.encode(videos, subject=subject), 1)

    @public
    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Videos ``[B, 3, F, *size]`` in [0, 1], float32 on the CPU, clipped.

        Raises:
            TypeError: If samples are no tensor.
            ValueError: If they are not finite floating-point samples ``[B, C, f, h, w]`` of the latents' channels.
            NonFiniteError: If the autoencoder gives NaN or Inf, as some do in float16.
        """
        samples = check_batch("decode", "samples", samples, (self.latent_channels,), _SHAPE)
        return self._pixels.decode(in_parts("decode", self.autoencoder, self._decode, samples.contiguous(), 1))

    def _unclipped(self, samples: torch.Tensor) -> torch.Tensor:
        """Videos as :meth:`decode` gives them; clipped only where the autoencoder does it. See :func:`decoder_map`."""
        like = next(self.autoencoder.parameters())
        decoded = run(self.autoencoder, self._decode, samples.to(like.dtype))
        return self._pixels._unclipped(decoded.to(samples.dtype))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        whole = self._by_frames(lambda part: self.autoencoder.encode(part).latent_dist.mode(), pixels)
        return self._scaling.forward(whole)

    def _decode(self, samples: torch.Tensor) -> torch.Tensor:
        return self._by_frames(lambda part: self.autoencoder.decode(part).sample, self._scaling.back(samples))

    def _by_frames(self, apply: Callable[[torch.Tensor], torch.Tensor], videos: torch.Tensor) -> torch.Tensor:
        """What an autoencoder makes of videos ``[B, C, F, H, W]``; one of pictures of their frames."""
        if not video_kind_of(self.autoencoder).framewise:
            return apply(videos)
        frames = videos.transpose(1, 2).flatten(0, 1).split(_FRAMES_AT_ONCE)
        return torch.cat([apply(part) for part in frames]).unflatten(0, (len(videos), -1)).transpose(1, 2)


def as_video(function: str, argument: str, size: Any) -> tuple[int, Size]:
    """Frames, and height and width, of a size of three; errors name function and argument."""
    if not isinstance(size, (tuple, list)) or len(size) != 3 or not all(map(is_int, size)):
        raise ValueError(f"{function}: {argument} must be (frames, height, width), got {shown(size)}")
    frames: int = check_int(function, argument, size[0], 1, MOST_FRAMES)
    return frames, as_size(function, argument, tuple(size[1:]))


def _is_video(entries: Any) -> bool:
    """Whether a list is of the frames of one video: of pictures, which are no animations."""
    return bool(entries) and all(
        (isinstance(entry, Image.Image) and getattr(entry, "n_frames", 1) == 1)
        or (isinstance(entry, (np.ndarray, torch.Tensor)) and entry.ndim <= 3)
        for entry in entries
    )


def _frames_of(video: Any, subject: str) -> list[Any]:
    """Those of an animated picture or its file, or of a uint8 array."""
    if isinstance(video, np.ndarray) and video.ndim == 4:
        return list(video)
    if isinstance(video, (str, Path)):
        video = identify(video, subject)
    if not isinstance(video, Image.Image):
        raise TypeError(
            f"{subject} must be a list of frames, an animated picture or its path, an array or a tensor, "
            f"got {type(video).__name__}"
        )
    return [frame.copy() for frame in ImageSequence.Iterator(video)]
