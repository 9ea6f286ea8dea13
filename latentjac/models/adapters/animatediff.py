"""U-Nets of pictures with layers between frames: AnimateDiff (Guo et al. 2023), on Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import pixel_unet, sdxl, text_unet
from latentjac.models.adapters.family import FrameOutput, gets
from latentjac.models.adapters.sdxl import SDXL
from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import embeddings_in

_FRAMES = 16  # that diffusers makes by default; the configuration names only the most
_TAKEN = (
    "AnimateDiffPipeline",
    "AnimateDiffSDXLPipeline",
    "AnimateDiffVideoToVideoPipeline",
    "AnimateDiffPAGPipeline",
)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The prediction ``[B, C, F, H, W]`` under ``"text"``, ``[B, tokens, channels]``, the same for each frame.

    With Stable Diffusion XL it gets ``"pooled"`` and ``"time_ids"``, with IP-Adapters ``"image_embedding"`` each.
    """
    more: dict[str, Any] = {**(text_unet.added(conditioning) or {})}
    pictures = embeddings_in(conditioning)
    if pictures:
        more["image_embeds"] = pictures
    text = conditioning["text"].repeat_interleave(x.shape[2], dim=0)
    return network(x, t, text, added_cond_kwargs=more or None, return_dict=False)[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of as many frames as diffusers makes by default, of the size of the configuration."""
    channels, height, width = pixel_unet.sample_shape(network)
    return channels, _FRAMES, height, width


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample, or features of one."""
    if pipeline not in _TAKEN:
        return gets(pipeline, "pictures")
    channels, predicted = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels != predicted:
        return f"in_channels must be {predicted}, as out_channels, got {channels}, so it gets pictures as well"
    if config.get("time_cond_proj_dim") is not None:
        return "time_cond_proj_dim must be None, got a number, so it gets the scale of guidance as well"
    return None


ANIMATEDIFF = replace(
    TEXT_UNET,
    network="UNetMotionModel",
    call=call,
    sample_shape=sample_shape,
    media="videos",
    further=lambda config: (),
    inputs=None,
    grid=FrameOutput(),
    refusal=refusal,
    ignores=("motion_adapter",),  # whose weights are those of the network by now
)
ANIMATEDIFF_XL = replace(
    ANIMATEDIFF,
    suits=SDXL.suits,
    conditioning=SDXL.conditioning,
    inputs=sdxl.inputs,
    requires=SDXL.requires,
    make_text=SDXL.make_text,
)
