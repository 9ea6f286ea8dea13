"""U-Nets that take a sample and a timestep alone: DDPM, and latent diffusion without conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning
from latentjac.models.seen import Seen


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The first output of a network of diffusers."""
    return network(x, t, return_dict=False)[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Channels, height and width by the configuration."""
    size = network.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return network.config["in_channels"], height, width


def layers(network: Any) -> Mapping[str, str]:
    """The middle block is h-space of Park et al. (2023) and Kwon et al. (2023)."""
    return {"mid": "mid_block", "h": "mid_block"}


def takes_classes(config: Mapping[str, Any]) -> bool:
    """Whether a U-Net of this configuration is told a class."""
    kind = config.get("class_embed_type")
    return config.get("num_class_embeds") is not None if kind is None else kind in ("timestep", "identity")


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample."""
    channels, out = config.get("in_channels"), config.get("out_channels")
    if channels is None or out is None or channels <= out:
        return None
    return f"in_channels must be those of a sample alone, {out} as it predicts, got {channels} in a {pipeline}"


PIXEL_UNET = Family(
    "UNet2DModel", call, sample_shape, layers, suits=lambda config: not takes_classes(config), refusal=refusal
)


def call_larger(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The same of one that gets an ``"image"`` of the size of the sample, in [-1, 1], behind it."""
    return call(network, torch.cat([x, conditioning["image"]], dim=1), t, conditioning)


def half(network: Any) -> tuple[int, ...]:
    """The shape of samples without that."""
    channels, height, width = sample_shape(network)
    return channels // 2, height, width


def sees_another(config: Mapping[str, Any]) -> bool:
    """Whether a network gets as many channels again as it predicts."""
    return PIXEL_UNET.suits(config) and config.get("in_channels") == 2 * (config.get("out_channels") or 3)


LARGER = replace(
    PIXEL_UNET,
    call=call_larger,
    sample_shape=half,
    suits=sees_another,
    pipelines=("LDMSuperResolution",),
    conditioning=("image",),
    seen=lambda network: Seen(image="pixels"),
    refusal=lambda config, pipeline: None,
)
