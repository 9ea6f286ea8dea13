"""U-Nets with text and a ControlNet-XS in one: both change the features of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.sdxl import SDXL
from latentjac.models.adapters.text_unet import TEXT_UNET, added
from latentjac.models.conditioning import Conditioning

_CHANNELS = 4  # of samples; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts.

    It gets what U-Nets with text get, a picture ``"control"``, ``[B, 3, height, width]`` in [0, 1], and the factor of
    what the ControlNet adds, ``"control_strength"``, ``[B, 1]``.
    """
    return network(
        x,
        t,
        conditioning["text"],
        controlnet_cond=conditioning["control"],
        conditioning_scale=conditioning["control_strength"][..., None, None],
        added_cond_kwargs=added(conditioning),
        return_dict=False,
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size of the configuration."""
    size = network.config["sample_size"]
    return _CHANNELS, *((size, size) if isinstance(size, int) else size)


def layers(network: Any) -> Mapping[str, str]:
    """The middle block of the U-Net, before the ControlNet adds to it, as in networks with others beside them."""
    return {"mid": "mid_block.base_midblock", "h": "mid_block.base_midblock"}


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it."""
    width = config.get("time_cond_proj_dim")
    return None if width is None else f"time_cond_proj_dim must be None, got {width}"


def _mutual(family: Family) -> Family:
    # A pipeline makes one network of the U-Net and of the ControlNet, which it keeps beside it.
    return replace(
        family,
        network="UNetControlNetXSModel",
        call=call,
        sample_shape=sample_shape,
        sized=True,
        layers=layers,
        conditioning=(*family.conditioning, "control", "control_strength"),
        further=lambda config: (),
        embeddings=lambda network: {},
        refusal=refusal,
        allows=(),
        ignores=("controlnet",),
    )


XS, XS_SDXL = _mutual(TEXT_UNET), _mutual(SDXL)
