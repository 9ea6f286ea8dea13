"""Transformers that take a picture as packed tokens, under a text of T5 alone: Chroma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters import ip_adapters
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.flux import layers, packed, places, sample_shape, unpacked
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]``; attend to ``"text"`` where ``"text_mask"``, ``[B, tokens]``, is 1.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures. With
    IP-Adapters it gets an ``"image_embedding"`` for each, ``[B, pictures, channels]``.
    """
    text, mask, tokens = conditioning["text"], conditioning["text_mask"], packed(x)
    out = network(
        hidden_states=tokens,
        timestep=times(x, t).to(x.dtype) / 1000,
        encoder_hidden_states=text,
        txt_ids=x.new_zeros(text.shape[1], 3),
        img_ids=places(x),
        attention_mask=torch.cat([mask, mask.new_ones(tokens.shape[:2])], dim=1),
        return_dict=False,
        **ip_adapters.given(conditioning),
    )[0]
    return unpacked(out, x.shape)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5, and which are of words; one behind their end is."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _, mask, _, _, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        return {"text": text, "text_mask": mask}

    return PipelineText("ChromaPipeline", parts, encode)


CHROMA = Family(
    "ChromaTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    joined={"single_transformer_blocks": "last"},
    placement="even",
    guidance_scale=5.0,
    embeddings=ip_adapters.from_black,
    requires={"text_encoder": (), "tokenizer": ()},
    allows=("image_encoder",),
    make_text=make_text,
)
