"""Autoencoders of pipelines: which classes there are, and how their latents become those that networks work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from latentjac.linearization import NonFiniteError

if TYPE_CHECKING:
    from latentjac.models.model import Model

PARTS = ("vae", "vqvae", "movq")  # what pipelines call them


@dataclass(frozen=True)
class Kind:
    """How the autoencoders of a class are used.

    Attributes:
        latents: Those in what ``encode`` returns; of a distribution its mode.
        blocks: Key of the configuration that has an entry for each resolution, each half of the one before.
        smooth: Keywords with which ``decode`` has a derivative.
        frames: Whether it takes and gives films ``[B, C, frames, H, W]``; a picture is one of one frame.
        decoding: Keywords with which pipelines call it.
        scaled: Whether networks work on latents that are scaled and shifted by the configuration.
        folded: Whether 2x2 latents become channels of one, scaled by the statistics of its batch normalization.
    """

    latents: Callable[[Any], torch.Tensor] = field(repr=False)
    blocks: str
    smooth: Mapping[str, bool] = field(default_factory=dict)
    frames: bool = False
    decoding: Mapping[str, bool] = field(default_factory=dict)
    scaled: bool = True
    folded: bool = False


def _mode(encoded: Any) -> torch.Tensor:
    return encoded.latent_dist.mode()


def _latents(encoded: Any) -> torch.Tensor:
    return encoded.latents


def _latent(encoded: Any) -> torch.Tensor:
    return encoded.latent


KINDS = {
    "AutoencoderKL": Kind(_mode, "block_out_channels"),
    "VQModel": Kind(_latents, "block_out_channels", {"force_not_quantize": True}),
    "AutoencoderTiny": Kind(_latents, "encoder_block_out_channels"),
    "AsymmetricAutoencoderKL": Kind(_mode, "down_block_out_channels"),
    "AutoencoderKLQwenImage": Kind(_mode, "dim_mult", frames=True),
    "AutoencoderKLWan": Kind(_mode, "dim_mult", frames=True),
    "AutoencoderKLFlux2": Kind(_mode, "block_out_channels", folded=True),
    "AutoencoderKLHunyuanImage": Kind(_mode, "block_out_channels"),
    "AutoencoderDC": Kind(_latent, "encoder_block_out_channels"),
}
# Of Kandinsky: decoded from latents as they are, without the codebook.
_MOVQ = replace(KINDS["VQModel"], decoding=KINDS["VQModel"].smooth, scaled=False)


@dataclass(frozen=True)
class VideoKind:
    """How autoencoders of a class are used for videos; all of them give the first frame a latent of its own.

    Attributes:
        factors: Frames and pixels along a side for each of a latent, of the autoencoder.
        together: Further latents that are decoded at once: there are a multiple of so many behind the first.
        scaling: What its latents are scaled by, as keys of a configuration.
        refusal: Why one of this configuration cannot be used, or None.
        framewise: Whether it is one of pictures, which takes frame by frame.
    """

    factors: Callable[[Any], tuple[int, int]] = field(repr=False)
    together: int = 1
    scaling: Callable[[Any], Mapping[str, Any]] = field(default=lambda coder: coder.config, repr=False)
    refusal: Callable[[Mapping[str, Any]], str | None] = field(default=lambda config: None, repr=False)
    framewise: bool = False


def _of_buffers(coder: Any) -> Mapping[str, Any]:
    """Means and deviations that are stored as weights are."""
    buffers = {name: getattr(coder, name).tolist() for name in ("latents_mean", "latents_std")}
    return {**coder.config, **buffers}


def _of_blocks(coder: Any) -> tuple[int, int]:
    return int(coder.config["temporal_compression_ratio"]), _of_scales(coder)


def _of_scales(coder: Any) -> int:
    return 2 ** (len(coder.config["block_out_channels"]) - 1)


VIDEO_KINDS = {
    "AutoencoderKL": VideoKind(lambda coder: (1, _of_scales(coder)), framewise=True),
    "AutoencoderKLHunyuanVideo": VideoKind(
        lambda coder: (coder.config["temporal_compression_ratio"], coder.config["spatial_compression_ratio"])
    ),
    "AutoencoderKLWan": VideoKind(
        lambda coder: (coder.config["scale_factor_temporal"], coder.config["scale_factor_spatial"])
    ),
    "AutoencoderKLCogVideoX": VideoKind(_of_blocks, together=2),
    "AutoencoderKLLTXVideo": VideoKind(
        lambda coder: (coder.temporal_compression_ratio, coder.spatial_compression_ratio),
        scaling=_of_buffers,
        refusal=lambda config: "its decoder draws noise at a timestep" if config.get("timestep_conditioning") else None,
    ),
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
    return _MOVQ if autoencoder.config.get("norm_type") == "spatial" else known


def video_kind_of(autoencoder: Any) -> VideoKind:
    """The same of an autoencoder of videos.

    Raises:
        TypeError: If there is none, or one of its configuration cannot be used.
    """
    names = [base.__name__ for base in type(autoencoder).__mro__]
    known = next((VIDEO_KINDS[name] for name in names if name in VIDEO_KINDS), None)
    why = None if known is None else known.refusal(autoencoder.config)
    if known is None or why is not None:
        reason = "" if why is None else f" ({why})"
        raise TypeError(f"VideoLatentCodec: autoencoder must be one of {list(VIDEO_KINDS)}, got {names[0]}{reason}")
    return known


def factor_of(autoencoder: Any) -> int:
    """Pixels along a side of a picture, or of a frame, for each of a latent."""
    if type(autoencoder).__name__ in VIDEO_KINDS:
        return video_kind_of(autoencoder).factors(autoencoder)[1]
    kind = kind_of(autoencoder)
    return 2 ** (len(autoencoder.config[kind.blocks]) - (0 if kind.folded else 1))


def picture_size(model: Model) -> tuple[int, int]:
    """Height and width in pixels of the pictures, or the frames, that samples of a model stand for."""
    autoencoder = getattr(model.codec, "autoencoder", None)
    factor = 1 if autoencoder is None else factor_of(autoencoder)
    height, width = model.sample_shape[-2:]
    return height * factor, width * factor


def latent_channels(autoencoder: Any) -> int:
    """Channels of a latent, as networks get it."""
    config = autoencoder.config
    channels = config.get("vq_embed_dim") or config.get("z_dim") or config["latent_channels"]
    folded = type(autoencoder).__name__ not in VIDEO_KINDS and kind_of(autoencoder).folded
    return 4 * channels if folded else channels


def picture_channels(autoencoder: Any) -> int:
    """Channels of a picture."""
    config = autoencoder.config
    channels: int = config.get("in_channels") or config["input_channels"]
    # Wan 2.2 makes patches of pixels channels before anything else.
    patch: int = (kind_of(autoencoder).frames and config.get("patch_size")) or 1
    return channels // patch**2


class Scaling:
    """Between the latents of an autoencoder and those of a network: ``(z - mean) scale / std``, as pipelines do it.

    The numbers are those of the autoencoder's configuration: ``scaling_factor``; ``latents_mean`` and ``latents_std``,
    which count where both are there; ``shift_factor`` is a mean of all channels.

    Args:
        config: Of the autoencoder.
        channels: Of a latent.
        dims: Dimensions of a latent behind the channels.

    Raises:
        ValueError: If there are not as many means and deviations as channels, or means beside a shift.
    """

    def __init__(self, config: Mapping[str, Any], channels: int, dims: int = 2) -> None:
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)
        self.mean, self.std = (_per_channel(config, name, channels, dims) for name in ("latents_mean", "latents_std"))
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


def scaling_of(autoencoder: Any, *, shifted: bool = True) -> Scaling:
    """That of an autoencoder, or without its ``shift_factor``; errors as of :class:`Scaling`."""
    channels = latent_channels(autoencoder)
    if not kind_of(autoencoder).folded:
        config = dict(autoencoder.config) if kind_of(autoencoder).scaled else {}
        return Scaling(config if shifted else {**config, "shift_factor": None}, channels)
    norm = autoencoder.bn
    spread = (norm.running_var.double() + autoencoder.config["batch_norm_eps"]).sqrt()
    return Scaling({"latents_mean": norm.running_mean.tolist(), "latents_std": spread.tolist()}, channels)


def _per_channel(config: Mapping[str, Any], name: str, channels: int, dims: int) -> torch.Tensor | None:
    values: Sequence[float] | None = config.get(name)
    if values is None:
        return None
    if len(values) != channels:
        raise ValueError(f"LatentCodec: autoencoder must have {channels} numbers of {name}, got {len(values)}")
    return torch.tensor(values, dtype=torch.float64, device="cpu").view(1, -1, *[1] * dims)


def in_parts(
    function: str,
    autoencoder: torch.nn.Module,
    apply: Callable[[torch.Tensor], torch.Tensor],
    values: torch.Tensor,
    at_once: int,
) -> torch.Tensor:
    """What an autoencoder makes of a batch, so many rows at a time, float32 on the CPU.

    Raises:
        NonFiniteError: If it gives NaN or Inf, which names the function.
    """
    like = next(autoencoder.parameters())
    parts = [apply(part.to(like.device, like.dtype)).float().cpu() for part in values.split(at_once)]
    result = torch.cat(parts)
    if not torch.isfinite(result).all():
        raise NonFiniteError(f"{function}: autoencoder must be finite, got NaN or Inf")
    return result
