"""Transformers of joint, then single streams under a text of UMT5: AuraFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"``, ``[B, tokens, channels]``, zeros behind its end."""
    return network(
        x,
        encoder_hidden_states=conditioning["text"],
        timestep=times(x, t).to(x.dtype) / 1000,
        return_dict=False,
    )[0]


def layers(network: Any) -> Mapping[str, str]:
    """The picture's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, "joint_transformer_blocks", "single_transformer_blocks")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of UMT5."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}

    return PipelineText("AuraFlowPipeline", parts, encode)


AURA_FLOW = Family(
    "AuraFlowTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text",),
    joined={"single_transformer_blocks": "last"},
    guidance_scale=3.5,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
