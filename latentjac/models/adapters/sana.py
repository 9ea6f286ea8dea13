"""Transformers of linear attention on latents of 32 pixels, with a text of Gemma: Sana and Sana Sprint."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import flux
from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.text import GUIDANCE_EMBEDDING

_INSTRUCTION = "complex_human_instruction"  # what the pipeline has in front of each prompt


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]``; attend to ``"text"`` where ``"text_mask"``, ``[B, tokens]``, is 1."""
    return network(x, **arguments(network.config, x, t, conditioning))[0]


def arguments(config: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
    """What such a network of this configuration and its ControlNet are called with beside samples."""
    return {
        "encoder_hidden_states": conditioning["text"],
        "encoder_attention_mask": conditioning["text_mask"],
        "timestep": times(x, t) * config.get("timestep_scale", 1.0),
        "return_dict": False,
    }


def call_distilled(
    network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    """The same of networks that are told the scale of guidance, ``"guidance_embedding"``, ``[B]``."""
    config: Any = network.config
    scale = conditioning[GUIDANCE_EMBEDDING] * config.guidance_embeds_scale
    return network(x, guidance=scale.to(x.dtype), **arguments(config, x, t, conditioning))[0]


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """Gemma, which reads an instruction before each prompt, and none before what guidance leads away from."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        usual = inspect.signature(type(pipeline).__call__).parameters[_INSTRUCTION].default
        text, mask, _, _ = pipeline.encode_prompt(prompts, False, **{_INSTRUCTION: usual})
        return {"text": text, "text_mask": mask}

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        _, _, text, mask = pipeline.encode_prompt(prompts, True, prompts)
        return {"text": text, "text_mask": mask}

    return PipelineText("SanaPipeline", parts, encode, encode_away)


def make_distilled_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """Gemma with the same instruction; there is nothing to lead away from."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        usual = inspect.signature(type(pipeline).__call__).parameters[_INSTRUCTION].default
        text, mask = pipeline.encode_prompt(prompts, **{_INSTRUCTION: usual})
        return {"text": text, "text_mask": mask}

    return PipelineText("SanaSprintPipeline", parts, encode)


SANA = Family(
    "SanaTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    suits=lambda config: not config.get("guidance_embeds"),  # of networks that were distilled
    conditioning=("text", "text_mask"),
    guidance_scale=4.5,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
SANA_SPRINT = replace(
    SANA,
    call=call_distilled,
    suits=lambda config: bool(config.get("guidance_embeds")),
    further=flux.further,
    inputs=flux.inputs,
    make_text=make_distilled_text,
)
