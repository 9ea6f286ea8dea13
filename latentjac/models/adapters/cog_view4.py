"""Transformers whose time is that before levels shift, under a text of GLM: CogView 4."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import layers, precise
from latentjac.models.adapters.family import Family, refusing
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.autoencoders import picture_size
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.placing import shift_by_side
from latentjac.models.seen import Seen


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"size"``, height and width of the picture, ``[B, 2]``.

    The network gets the time that its scheduler shifts by ``"shift"``, ``[B]``. Channels of latents of a picture,
    ``"control"``, come behind those of the sample.
    """
    size, shift = conditioning["size"], conditioning["shift"]
    time = precise(x, t)
    seen = torch.cat([x, conditioning["control"]], dim=1) if "control" in conditioning else x
    return network(
        hidden_states=seen,
        encoder_hidden_states=conditioning["text"],
        timestep=before_shift(time / 1000, shift) * 1000,
        original_size=size.contiguous(),
        target_size=size.contiguous(),
        crop_coords=torch.zeros_like(size),
        return_dict=False,
    )[0]


def before_shift(noise: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The level that a linear shift makes of ``noise``: the inverse of ``shift s / (1 + (shift - 1) s)``."""
    return noise / (noise + shift * (1 - noise))


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The size of the picture, and how far levels shift at that size."""
    size = torch.tensor([list(map(float, picture_size(model)))])
    return {"size": size, "shift": torch.tensor([shift_of(model.scheduler, model.image_seq_len)])}


def shift_of(scheduler: Any, tokens: int) -> float:
    """By how much a scheduler shifts levels of samples of so many tokens."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return float(getattr(scheduler, "shift", None) or config.get("flow_shift") or 1.0)
    mu = shift_by_side(config, tokens)
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of GLM one layer before its end, of as many tokens as the longest prompt has."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}

    return PipelineText("CogView4Pipeline", parts, encode)


def doubled(config: Mapping[str, Any]) -> bool:
    """Whether a network of this configuration gets latents of a picture as well."""
    return bool(config.get("in_channels", 16) == 2 * config.get("out_channels", 16))


def half(network: Any) -> tuple[int, ...]:
    """The shape of samples without those latents."""
    channels, height, width = sample_shape(network)
    return channels // 2, height, width


COG_VIEW4 = Family(
    "CogView4Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    suits=lambda config: not doubled(config),
    conditioning=("text", "size", "shift"),
    inputs=inputs,
    refusal=refusing("Control"),
    placement="whole",
    guidance_scale=5.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
COG_VIEW4_CONTROL = replace(
    COG_VIEW4,
    sample_shape=half,
    suits=doubled,
    pipelines=("CogView4Control",),
    conditioning=("text", "size", "shift", "control"),
    seen=lambda network: Seen(control="unshifted"),
    refusal=lambda config, pipeline: None,
    tokens=lambda network, shape: shape[1] * shape[2] // network.config["patch_size"] ** 2,
)
