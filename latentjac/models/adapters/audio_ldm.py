"""U-Nets of spectrograms that are told a text as a whole: AudioLDM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.pixel_unet import PIXEL_UNET
from latentjac.models.adapters.text_unet import refusal_without
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.spectrograms import VOCODERS, Vocoded

_BANDS = 16  # of a latent of published networks, whose configuration names its frames alone


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The prediction under ``"text"``, ``[B, channels]``, an embedding of the whole of it."""
    return network(x, t, None, class_labels=conditioning["text"], return_dict=False)[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Channels, frames and bands of latents of spectrograms."""
    return network.config["in_channels"], network.config["sample_size"], _BANDS


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The embedding of CLAP, of length 1."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline._encode_prompt(prompts, pipeline._execution_device, 1, False)}

    return PipelineText("AudioLDMPipeline", parts, encode)


AUDIO_LDM = replace(
    PIXEL_UNET,
    network="UNet2DConditionModel",
    call=call,
    sample_shape=sample_shape,
    suits=lambda config: config.get("class_embed_type") == "simple_projection",
    media="sound",
    conditioning=("text",),
    guidance_scale=2.5,
    refusal=refusal_without("class_embed_type"),
    requires={"text_encoder": ("ClapTextModelWithProjection",), "tokenizer": (), "vocoder": VOCODERS},
    coded=lambda coder, parts: Vocoded(coder, parts["vocoder"]),
    make_text=make_text,
)
