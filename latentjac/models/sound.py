"""Between sound and the latents that a network works on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.weight_norm import WeightNorm

from latentjac.arguments import check_int, check_tensor, check_text
from latentjac.models.autoencoders import in_parts
from latentjac.models.codec import check_batch
from latentjac.models.layers import run
from latentjac.models.prepare import Size
from latentjac.public import public

KINDS = ("AutoencoderOobleck",)
_LONGEST = 2**20  # latents of a wave


class SoundCodec:
    """Waves as latents ``[B, C, l]`` of an autoencoder, for networks that work on those; as they are, without a scale.

    Encoding takes the mode of the posterior.

    Attributes:
        media: ``"sound"``.
        length: Samples of a wave.
        rate: Of these, in a second.
        channels: Of a wave, such as 2 (stereo).
        latent_channels: Of a latent.
        autoencoder: Its network, in evaluation mode, gradients off.

    Args:
        autoencoder: Of diffusers, an ``AutoencoderOobleck``.
        latent_length: Of a latent.

    Raises:
        TypeError: If the autoencoder is of another class, or the length no int.
        ValueError: If the length is out of range.
    """

    media = "sound"
    size: Size = (0, 0)  # there are no pictures
    channels: int
    autoencoder: Any
    _shape = "[B, C, L]"

    def __init__(self, autoencoder: Any, latent_length: int) -> None:
        if type(autoencoder).__name__ not in KINDS:
            kind = type(autoencoder).__name__
            raise TypeError(f"SoundCodec: autoencoder must be one of {list(KINDS)}, got {kind}")
        config = autoencoder.config
        self.length = check_int("SoundCodec", "latent_length", latent_length, 1, _LONGEST) * autoencoder.hop_length
        self.rate: int = config["sampling_rate"]
        self.channels = config["audio_channels"]
        self.latent_channels: int = config["decoder_input_channels"]
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        _settle(autoencoder)

    @property
    def seconds(self) -> float:
        """How long a wave is."""
        return self.length / self.rate

    @public
    @torch.no_grad()
    def encode(self, waves: Any, *, subject: str = "encode: waves") -> torch.Tensor:
        """Latents ``[B, C, l]``, float32 on the CPU.

        Args:
            waves: Float tensor or array ``[C, L]`` or ``[B, C, L]`` in [-1, 1], at the rate of the codec and of its
                length.
            subject: Function and argument of the user, for messages.

        Raises:
            TypeError: If waves are no tensor or array.
            ValueError: If they have another shape, type or range.
            NonFiniteError: If the autoencoder gives NaN or Inf.
        """
        function, _, argument = check_text("encode", "subject", subject).partition(": ")
        if isinstance(waves, np.ndarray) and np.issubdtype(waves.dtype, np.floating):
            waves = torch.from_numpy(np.ascontiguousarray(waves, dtype=np.float32))
        waves = check_tensor(function, argument, waves).float()
        batch = waves[None] if waves.ndim == 2 else waves
        if batch.ndim != 3 or tuple(batch.shape[1:]) != (self.channels, self.length) or len(batch) == 0:
            expected = f"[B, {self.channels}, {self.length}]"
            raise ValueError(f"{subject} must be a float tensor {expected}, got {list(waves.shape)}")
        if float(batch.abs().max()) > 1:
            raise ValueError(f"{subject} must have values in [-1, 1], got one of {float(batch.abs().max()):.4g}")
        return in_parts("encode", self.autoencoder, self._encode, batch, 1)

    @public
    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Waves ``[B, C, L]``, float32 on the CPU; about in [-1, 1], and not clipped to it.

        Raises:
            TypeError: If samples are no tensor.
            ValueError: If they are not finite floating-point samples ``[B, C, l]`` of the latents' channels.
            NonFiniteError: If the autoencoder gives NaN or Inf.
        """
        samples = check_batch("decode", "samples", samples, (self.latent_channels,), self._shape)
        return in_parts("decode", self.autoencoder, self._decode, samples.contiguous(), 1)

    def _unclipped(self, samples: torch.Tensor) -> torch.Tensor:
        """Waves as :meth:`decode` gives them; see :func:`decoder_map`."""
        like = next(self.autoencoder.parameters())
        return run(self.autoencoder, self._decode, samples.to(like.dtype)).to(samples.dtype)

    def _encode(self, waves: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode(waves).latent_dist.mode()

    def _decode(self, samples: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.decode(samples).sample


def _settle(autoencoder: torch.nn.Module) -> None:
    """Compute weights that are norms times directions without their graph, with which no copy could be made."""
    for module in autoencoder.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                setattr(module, hook.name, hook.compute_weight(module))
