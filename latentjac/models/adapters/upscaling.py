"""U-Nets with text that get a picture with noise or a map of depth: upscalers, and Stable Diffusion 2 with depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import pixel_unet
from latentjac.models.adapters.deepfloyd import DEEPFLOYD
from latentjac.models.adapters.text_unet import TEXT_UNET, call_with, refusal_without
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import Noising


def call(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts.

    It attends to ``"text"`` and gets behind the channels of the sample those of an ``"image"`` of its size, in [-1, 1]
    with noise, and the timestep of that noise, ``"noise_level"``, int64 ``[B]``.
    """
    level = conditioning["noise_level"]
    labels = level if network.config.get("class_embed_type") is None else level.to(x.dtype)
    return call_with(network, x, t, conditioning, class_labels=labels)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Without the three channels of the picture."""
    channels, height, width = pixel_unet.sample_shape(network)
    return channels - 3, height, width


UPSCALED = replace(
    TEXT_UNET,
    suits=lambda config: TEXT_UNET.suits(config) and config.get("num_class_embeds") is not None,
    call=call,
    sample_shape=sample_shape,
    conditioning=("text", "image", "noise_level"),
    further=lambda config: (),
    noising=lambda parts: Noising(parts["low_res_scheduler"], 20),
    refusal=refusal_without("num_class_embeds", "in_channels"),
    guidance_scale=9.0,
    requires={**TEXT_UNET.requires, "low_res_scheduler": ("DDPMScheduler", "DDIMScheduler")},
)
DEEPFLOYD_UPSCALED = replace(
    DEEPFLOYD,
    suits=lambda config: config.get("class_embed_type") == "timestep",
    call=call,
    sample_shape=sample_shape,
    conditioning=("text", "image", "noise_level"),
    noising=lambda parts: Noising(parts["image_noising_scheduler"], 250),
    refusal=refusal_without("class_embed_type", "in_channels"),
    guidance_scale=4.0,
    requires={**DEEPFLOYD.requires, "image_noising_scheduler": ("DDPMScheduler",)},
)


def depth_shape(network: Any) -> tuple[int, ...]:
    """Without the channel of depth."""
    channels, height, width = pixel_unet.sample_shape(network)
    return channels - 1, height, width


DEPTH = replace(
    TEXT_UNET,
    suits=lambda config: TEXT_UNET.suits(config) and config.get("in_channels") == config.get("out_channels", 4) + 1,
    sample_shape=depth_shape,
    conditioning=("text", "depth"),
    further=lambda config: (),
    refusal=refusal_without("in_channels"),
    requires={**TEXT_UNET.requires, "depth_estimator": ("DPTForDepthEstimation",)},
)
