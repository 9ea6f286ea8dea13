"""Autoencoders of pipelines: which classes there are, and how their latents become those that networks work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from latentjac.models.model import Model

PARTS = ("vae", "vqvae")  # what pipelines call them


@dataclass(frozen=True)
class Kind:
    """How the autoencoders of a class are used.

    Attributes:
        latents: Those in what ``encode`` returns; of a distribution its mode.
        blocks: Key of the configuration that has an entry for each resolution, each half of the one before.
        smooth: Keywords with which ``decode`` has a derivative.
        frames: Whether it takes and gives films ``[B, C, frames, H, W]``; a picture is one of one frame.
        folded: Whether 2x2 latents become channels of one, scaled by the statistics of its batch normalization.
    """

    latents: Callable[[Any], torch.Tensor] = field(repr=False)
    blocks: str
    smooth: Mapping[str, bool] = field(default_factory=dict)
    frames: bool = False
    folded: bool = False


def _mode(encoded: Any) -> torch.Tensor:
    return encoded.latent_dist.mode()


def _latents(encoded: Any) -> torch.Tensor:
    return encoded.latents


KINDS = {
    "AutoencoderKL": Kind(_mode, "block_out_channels"),
    "VQModel": Kind(_latents, "block_out_channels", {"force_not_quantize": True}),
    "AutoencoderTiny": Kind(_latents, "encoder_block_out_channels"),
    "AsymmetricAutoencoderKL": Kind(_mode, "down_block_out_channels"),
    "AutoencoderKLQwenImage": Kind(_mode, "dim_mult", frames=True),
    "AutoencoderKLFlux2": Kind(_mode, "block_out_channels", folded=True),
    "AutoencoderDC": Kind(lambda encoded: encoded.latent, "encoder_block_out_channels"),
}
REFUSED = {"ConsistencyDecoderVAE": "its decoder draws noise, so a picture does not repeat"}


def kind_of(autoencoder: Any) -> Kind:
    """The row of an autoencoder, by its class or one that this is derived from.

    Raises:
        TypeError: If there is none.
    """
    names = [base.__name__ for base in type(autoencoder).__mro__]
    known = next((KINDS[name] for name in names if name in KINDS), None)
    if known is None:
        why = next((f" ({REFUSED[name]})" for name in names if name in REFUSED), "")
        raise TypeError(f"LatentCodec: autoencoder must be one of {list(KINDS)}, got {names[0]}{why}")
    return known


def factor_of(autoencoder: Any) -> int:
    """Pixels along a side of a picture for each of a latent."""
    kind = kind_of(autoencoder)
    return 2 ** (len(autoencoder.config[kind.blocks]) - (0 if kind.folded else 1))


def picture_size(model: Model) -> tuple[int, int]:
    """Height and width in pixels of the pictures that samples of a model stand for."""
    autoencoder = getattr(model.codec, "autoencoder", None)
    factor = 1 if autoencoder is None else factor_of(autoencoder)
    _, height, width = model.sample_shape
    return height * factor, width * factor


def latent_channels(autoencoder: Any) -> int:
    """Channels of a latent, as networks get it."""
    config = autoencoder.config
    channels = config.get("vq_embed_dim") or config.get("z_dim") or config["latent_channels"]
    return 4 * channels if kind_of(autoencoder).folded else channels


def picture_channels(autoencoder: Any) -> int:
    """Channels of a picture."""
    config = autoencoder.config
    return config.get("in_channels") or config["input_channels"]


class Scaling:
    """Between the latents of an autoencoder and those of a network: ``(z - mean) scale / std``, as pipelines do it.

    The numbers are those of the autoencoder's configuration: ``scaling_factor``; ``latents_mean`` and ``latents_std``,
    which count where both are there; ``shift_factor`` is a mean of all channels.

    Raises:
        ValueError: If there are not as many means and deviations as channels, or means beside a shift.
    """

    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)
        self.mean, self.std = (_per_channel(config, name, channels) for name in ("latents_mean", "latents_std"))
        if self.mean is None or self.std is None:
            self.mean = self.std = None
        elif self.shift:
            raise ValueError(
                f"LatentCodec: autoencoder must have shift_factor or latents_mean, got {self.shift:g} beside the mean"
            )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of the network, of those of the autoencoder."""
        if self.mean is None or self.std is None:
            return (latents - self.shift) * self.scale
        return (latents - self.mean.to(latents)) * self.scale / self.std.to(latents)

    def back(self, samples: torch.Tensor) -> torch.Tensor:
        """Latents of the autoencoder, of those of the network."""
        if self.mean is None or self.std is None:
            return samples / self.scale + self.shift
        return samples * self.std.to(samples) / self.scale + self.mean.to(samples)


def scaling_of(autoencoder: Any) -> Scaling:
    """That of an autoencoder; errors as of :class:`Scaling`."""
    channels = latent_channels(autoencoder)
    if not kind_of(autoencoder).folded:
        return Scaling(autoencoder.config, channels)
    norm = autoencoder.bn
    spread = (norm.running_var.double() + autoencoder.config["batch_norm_eps"]).sqrt()
    return Scaling({"latents_mean": norm.running_mean.tolist(), "latents_std": spread.tolist()}, channels)


def _per_channel(config: Mapping[str, Any], name: str, channels: int) -> torch.Tensor | None:
    values: Sequence[float] | None = config.get(name)
    if values is None:
        return None
    if len(values) != channels:
        raise ValueError(f"LatentCodec: autoencoder must have {channels} numbers of {name}, got {len(values)}")
    return torch.tensor(values, dtype=torch.float64, device="cpu").view(1, -1, 1, 1)
