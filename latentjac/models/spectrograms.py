"""Between sound and the latents of spectrograms, which a vocoder turns into waves."""

from __future__ import annotations

import math
from typing import Any

import torch

from latentjac.models.autoencoders import factor_of, latent_channels, scaling_of
from latentjac.models.prepare import Size, as_size
from latentjac.models.sound import SoundCodec

VOCODERS = ("SpeechT5HifiGan",)
_QUIETEST = 1e-5  # of a magnitude, whose logarithm is taken


class Vocoded(torch.nn.Module):
    """An autoencoder of spectrograms and the vocoder behind it, as one.

    Attributes:
        config: That of the autoencoder.
        vae: It.
        vocoder: Of transformers; makes waves ``[B, L]`` of spectrograms ``[B, frames, bands]``.
    """

    def __init__(self, vae: Any, vocoder: Any) -> None:
        super().__init__()
        self.config = vae.config
        self.vae, self.vocoder = vae, vocoder

    @property
    def bands(self) -> int:
        """Bands of a spectrogram."""
        return int(self.vocoder.config.model_in_dim)

    @property
    def hop(self) -> int:
        """Samples of a wave for each frame."""
        return math.prod(self.vocoder.config.upsample_rates)


class SpectrogramCodec(SoundCodec):
    """Waves of one channel as latents ``[B, C, frames, bands]`` of the logarithms of their spectrograms.

    Encoding takes the mode of the posterior. Spectrograms are those that AudioLDM was trained with: magnitudes in
    windows of Hann, in bands of the mel scale up to half the rate, by natural logarithms. A vocoder makes waves of them
    that sound alike; phases are its own.

    Attributes:
        media: ``"sound"``.
        length: Samples of a wave.
        rate: Of these, in a second.
        channels: Of a wave, 1.
        latent_channels: Of a latent.
        autoencoder: That of spectrograms and the vocoder.

    Args:
        autoencoder: Both, a :class:`Vocoded`.
        latent_size: Frames and bands of a latent.

    Raises:
        TypeError: If the autoencoder or the vocoder is of another class.
        ValueError: If the size is out of range, or the bands are not those of the vocoder.
    """

    _shape = "[B, C, frames, bands]"
    channels = 1

    def __init__(self, autoencoder: Vocoded, latent_size: Size) -> None:
        vae, vocoder = autoencoder.vae, autoencoder.vocoder
        for part, known in ((vae, ("AutoencoderKL",)), (vocoder, VOCODERS)):
            if type(part).__name__ not in known:
                kind = type(part).__name__
                raise TypeError(f"SpectrogramCodec: autoencoder must be of {list(known)}, got {kind}")
        frames, bands = as_size("SpectrogramCodec", "latent_size", latent_size)
        self._scaling, self.latent_channels = scaling_of(vae), latent_channels(vae)
        factor = factor_of(vae)
        if bands * factor != autoencoder.bands:
            raise ValueError(
                f"SpectrogramCodec: latent_size must have {autoencoder.bands} / {factor} bands, as the vocoder has "
                f"{autoencoder.bands}, got {bands}"
            )
        self.length, self.rate = frames * factor * autoencoder.hop, int(vocoder.config.sampling_rate)
        self.autoencoder = autoencoder.eval().requires_grad_(False)

    def _encode(self, waves: torch.Tensor) -> torch.Tensor:
        coder: Vocoded = self.autoencoder
        spectrogram = spectrogram_of(waves[:, 0].float(), coder.bands, coder.hop, self.rate)
        like = next(coder.vae.parameters())
        return self._scaling.forward(coder.vae.encode(spectrogram[:, None].to(like.dtype)).latent_dist.mode())

    def _decode(self, samples: torch.Tensor) -> torch.Tensor:
        coder: Vocoded = self.autoencoder
        spectrogram = coder.vae.decode(self._scaling.back(samples)).sample[:, 0]
        waves = coder.vocoder(spectrogram.to(next(coder.vocoder.parameters()).dtype))
        return waves.reshape(len(samples), 1, -1)


def spectrogram_of(waves: torch.Tensor, bands: int, hop: int, rate: int) -> torch.Tensor:
    """Logarithms of magnitudes ``[B, frames, bands]`` of waves ``[B, frames hop]``, in bands of Slaney's mel scale."""
    window = 2 ** math.ceil(math.log2(6 * hop))  # 1024 of the 160 of AudioLDM
    mode = "reflect" if waves.shape[1] > window // 2 else "constant"
    hann = torch.hann_window(window, device=waves.device, dtype=waves.dtype)
    found = torch.stft(waves, window, hop, window=hann, pad_mode=mode, return_complex=True).abs()[..., :-1]
    return (_bands(window // 2 + 1, bands, rate).to(found) @ found).clamp_min(_QUIETEST).log().transpose(1, 2)


def _bands(frequencies: int, bands: int, rate: int) -> torch.Tensor:
    """Weights ``[bands, frequencies]`` of triangles of area 1, from 0 to half the rate."""
    import numpy as np
    from transformers.audio_utils import mel_filter_bank

    weights = mel_filter_bank(frequencies, bands, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(np.ascontiguousarray(weights.T))
