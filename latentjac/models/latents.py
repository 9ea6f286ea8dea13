"""Between pictures and the latents of an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from latentjac.models.autoencoders import factor_of, in_parts, kind_of, latent_channels, picture_channels, scaling_of
from latentjac.models.codec import ImageInput, PixelCodec, check_batch
from latentjac.models.layers import run
from latentjac.models.prepare import Size, as_size
from latentjac.public import public

# Pictures at once: at 512x512 the decoder of Stable Diffusion takes some 2 GB for each.
_AT_ONCE = 4


class LatentCodec:
    """Pictures as scaled latents of an autoencoder, for networks that work on those.

    The same interface as :class:`PixelCodec`. Encoding takes the mode of the posterior, so it repeats; the published
    code of Park et al. (2023) draws a sample instead.

    Attributes:
        size: Height and width of a picture in pixels.
        channels: Of a picture.
        latent_channels: Of a sample.
        autoencoder: Its network, in evaluation mode, gradients off.

    Args:
        autoencoder: Of diffusers, of a class in ``latentjac.models.autoencoders.KINDS``. Latents are scaled and shifted
            by its configuration as the pipelines of diffusers do it.
        latent_size: Height and width of a latent, or the side of a square.
        shifted: Whether latents are shifted by the ``shift_factor`` of the configuration, if it has one.

    Raises:
        TypeError: If the autoencoder is of another class, or the size none.
        ValueError: If numbers of its configuration do not fit together, or the size is out of range.
    """

    def __init__(self, autoencoder: Any, latent_size: int | Size, *, shifted: bool = True) -> None:
        self._kind = kind_of(autoencoder)
        height, width = as_size("LatentCodec", "latent_size", latent_size)
        factor = factor_of(autoencoder)
        self.size = height * factor, width * factor
        self.channels = picture_channels(autoencoder)
        self._pixels = PixelCodec(self.size, self.channels)
        self.latent_channels = latent_channels(autoencoder)
        self._scaling = scaling_of(autoencoder, shifted=shifted)
        self.autoencoder = autoencoder.eval().requires_grad_(False)

    @property
    def shift(self) -> float:
        """What its configuration takes off latents, as they are scaled."""
        return self._scaling.shift * self._scaling.scale

    @public
    @torch.no_grad()
    def encode(self, images: ImageInput | list[ImageInput], *, subject: str = "encode: images") -> torch.Tensor:
        """Latents ``[B, C, H, W]``, float32 on the CPU; takes and refuses what :meth:`PixelCodec.encode` does.

        Raises:
            NonFiniteError: If the autoencoder gives NaN or Inf, as some do in float16.
        """
        pixels = self._pixels.encode(images, subject=subject)
        return in_parts("encode", self.autoencoder, self._encode, pixels, _AT_ONCE)

    @public
    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, 3, *size]`` in [0, 1], float32 on the CPU, clipped.

        Raises:
            TypeError: If samples are no tensor.
            ValueError: If they are not finite floating-point samples ``[B, C, H, W]`` of the latents' channels.
            NonFiniteError: If the autoencoder gives NaN or Inf, as some do in float16.
        """
        samples = check_batch("decode", "samples", samples, (self.latent_channels,))
        decoded = in_parts("decode", self.autoencoder, self._decode_plain, samples.contiguous(), _AT_ONCE)
        return self._pixels.decode(decoded)

    def _unclipped(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures as :meth:`decode` gives them, before they are clipped to [0, 1]; see :func:`decoder_map`."""
        like = next(self.autoencoder.parameters())
        decoded = run(self.autoencoder, self._decode, samples.to(like.dtype), **self._kind.smooth)
        return self._pixels._unclipped(decoded.to(samples.dtype))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = self._kind.latents(self.autoencoder.encode(pixels[:, :, None] if self._kind.frames else pixels))
        if self._kind.frames:
            latents = latents[:, :, 0]
        return self._scaling.forward(pixel_unshuffle(latents, 2) if self._kind.folded else latents)

    def _decode(self, samples: torch.Tensor, **options: bool) -> torch.Tensor:
        latents = self._scaling.back(samples)
        if self._kind.folded:
            latents = pixel_shuffle(latents, 2)
        decoded = self.autoencoder.decode(latents[:, :, None] if self._kind.frames else latents, **options).sample
        return decoded[:, :, 0] if self._kind.frames else decoded

    def _decode_plain(self, samples: torch.Tensor) -> torch.Tensor:
        return self._decode(samples, **self._kind.decoding)
