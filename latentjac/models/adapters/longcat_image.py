"""Transformers that take a picture as packed tokens, under a text of Qwen 2.5 VL: LongCat-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.family import Family, refusing
from latentjac.models.adapters.flux import layers, packed, places, sample_shape, unpacked
from latentjac.models.adapters.ovis_image import predicted
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_MOST_TOKENS = 512  # of a prompt, and where the places of a picture begin


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"``, ``[B, tokens, channels]``.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    behind = torch.tensor([1, _MOST_TOKENS, _MOST_TOKENS], device=x.device, dtype=x.dtype)
    return predicted(network, x, t, conditioning, places(x) + behind)


def rescaled(out: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """What guidance gives, each token of it no longer than under the prompt alone."""
    tokens, own = packed(out), packed(towards)
    longer = own.norm(dim=-1, keepdim=True) / (tokens.norm(dim=-1, keepdim=True) + 1e-8)
    return unpacked(tokens * longer.clamp(max=1.0), out.shape)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model within the instruction around each prompt, which is not rewritten."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts)[0]}

    return PipelineText("LongCatImagePipeline", parts, encode)


LONGCAT_IMAGE = Family(
    "LongCatImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text",),
    refusal=refusing("Edit"),
    placement="even",
    rescaled=rescaled,
    guidance_scale=4.5,
    requires={"text_encoder": (), "tokenizer": ()},
    ignores=("text_processor",),
    make_text=make_text,
)
