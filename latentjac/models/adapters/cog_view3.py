"""Transformers that are told the size of the picture, under a text of T5: CogView 3 Plus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.autoencoders import picture_size
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Under ``"text"``, ``[B, tokens, channels]``, and ``"size"``, height and width of the picture, ``[B, 2]``."""
    size = conditioning["size"].contiguous()  # rows for all are views, whose forms the network does not take
    return network(
        hidden_states=x,
        encoder_hidden_states=conditioning["text"],
        timestep=times(x, t),
        original_size=size,
        target_size=size,
        crop_coords=torch.zeros_like(size),
        return_dict=False,
    )[0]


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The size of the picture, without a crop."""
    return {"size": torch.tensor([list(map(float, picture_size(model)))])}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5; zeros where guidance leads away from no text."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text = encode(pipeline, prompts)["text"]
        return {"text": torch.zeros_like(text) if prompts == [""] else text}

    return PipelineText("CogView3PlusPipeline", parts, encode, encode_away)


COG_VIEW3 = Family(
    "CogView3PlusTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text", "size"),
    inputs=inputs,
    guidance_scale=5.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
