"""Between pictures and the latents of an autoencoder."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.models.codec import ImageInput, PixelCodec
from latentjac.public import public

# Pictures at once: at 512x512 the decoder of Stable Diffusion takes some 2 GB for each.
_AT_ONCE = 4


class LatentCodec:
    """Pictures as scaled latents of an autoencoder, for networks that work on those.

    The same interface as :class:`PixelCodec`. Encoding takes the mode of the posterior, so it repeats; the published
    code of Park et al. (2023) draws a sample instead.

    Attributes:
        size: Side of a picture in pixels.
        channels: Of a picture.
        autoencoder: Its network, in evaluation mode, gradients off.

    Args:
        autoencoder: ``AutoencoderKL`` or ``VQModel`` of diffusers.
        latent_size: Side of a latent.
    """

    def __init__(self, autoencoder: Any, latent_size: int) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.size = latent_size * 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.channels = autoencoder.config.in_channels
        self._pixels = PixelCodec(self.size, self.channels)
        self._scale = float(autoencoder.config.scaling_factor)

    @public
    @torch.no_grad()
    def encode(self, images: ImageInput | list[ImageInput], *, function: str = "encode") -> torch.Tensor:
        """Latents ``[B, C, H, W]``, float32 on the CPU; takes and refuses what :meth:`PixelCodec.encode` does."""
        return self._in_parts(self._encode, self._pixels.encode(images, function=function))

    @public
    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, 3, size, size]`` in [0, 1], float32 on the CPU, clipped."""
        return self._pixels.decode(self._in_parts(self._decode, samples))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded = self.autoencoder.encode(pixels)
        return (encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents) * self._scale

    def _decode(self, samples: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(samples / self._scale).sample

    def _in_parts(self, apply: Any, values: torch.Tensor) -> torch.Tensor:
        like = next(self.autoencoder.parameters())
        parts = [apply(part.to(like.device, like.dtype)).float().cpu() for part in values.detach().split(_AT_ONCE)]
        return torch.cat(parts)
