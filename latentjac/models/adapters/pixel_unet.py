"""U-Nets that take a sample and a timestep alone: DDPM, and latent diffusion without conditioning."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The first output of a network of diffusers."""
    return network(x, t, return_dict=False)[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Channels, height and width by the configuration."""
    size = network.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return network.config["in_channels"], height, width


LAYERS = {"mid": "mid_block", "h": "mid_block"}  # h-space of Park et al. (2023) and Kwon et al. (2023)
PIXEL_UNET = Family("UNet2DModel", call, sample_shape, LAYERS)
