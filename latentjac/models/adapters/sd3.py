"""Transformers with a stream of text beside that of the picture: Stable Diffusion 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters import ip_adapters
from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.text_files import TOKENIZERS


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to ``"text"``, ``[B, tokens, channels]``, with ``"pooled"``, ``[B, channels]``, added to the time.

    With an IP-Adapter it gets an ``"image_embedding"``, ``[B, pictures, tokens, channels]``.
    """
    return network(x, **arguments(x, t, conditioning), **ip_adapters.given_tokens(conditioning))[0]


def arguments(x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
    """What such a network and its ControlNets are called with beside samples."""
    return {
        "timestep": times(x, t),
        "encoder_hidden_states": conditioning["text"],
        "pooled_projections": conditioning["pooled"],
        "return_dict": False,
    }


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """Its two or three encoders; without T5 its tokens are zero, as in diffusers."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    return PipelineText("StableDiffusion3Pipeline", parts, encode)


SD3 = Family(
    "SD3Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text", "pooled"),
    placement="scheduler",
    guidance_scale=7.0,
    requires={
        "text_encoder": ("CLIPTextModelWithProjection",),
        "tokenizer": TOKENIZERS,
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "tokenizer_2": TOKENIZERS,
    },
    embeddings=ip_adapters.of_resampler,
    allows=("text_encoder_3", "tokenizer_3", "image_encoder"),
    make_text=make_text,
)
