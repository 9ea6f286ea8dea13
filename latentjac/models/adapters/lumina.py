"""Transformers of pictures that attend to a text of Gemma beside their tokens: Lumina-Next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import precise
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_PLACES, _GUIDED = 384, 3  # along each side of the table of places; channels that the pipeline guides


def call(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    The network gets the signal as its time and predicts x0 - eps; places are as far apart as at the size that it was
    trained at, and attention is sharper for more tokens, as in its pipeline.
    """
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    text, mask, side = conditioning["text"], conditioning["text_mask"], network.config["sample_size"]
    out = network(
        hidden_states=x,
        timestep=1 - precise(x, t) / 1000,
        encoder_hidden_states=text,
        encoder_mask=mask if mask.shape[1] else x.new_ones(text.shape[:2]),
        image_rotary_emb=get_2d_rotary_pos_embed_lumina(
            network.head_dim, _PLACES, _PLACES, linear_factor=math.sqrt(x.shape[2] * x.shape[3]) / side
        ),
        cross_attention_kwargs={"base_sequence_length": (side // 2) ** 2},
        return_dict=False,
    )[0]
    return -out[:, : x.shape[1]]


def rescaled(out: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """What guidance gives in the first three channels; the others are those under the prompt alone."""
    return torch.cat([out[:, :_GUIDED], towards[:, _GUIDED:]], dim=1)


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``; see the layers of DiT."""
    return middle_of(network, "layers")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of Gemma one layer before its end; what fills up its texts is masked by the pipeline."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask, *_ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, clean_caption=True)
        return side_by_side([row[shown] for row, shown in zip(text, mask.bool(), strict=True)])

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask = pipeline.encode_prompt(prompts, negative_prompt=prompts)[2:]
        return side_by_side([row[shown] for row, shown in zip(text, mask.bool(), strict=True)])

    return PipelineText("LuminaPipeline", parts, encode, encode_away)


LUMINA = Family(
    "LuminaNextDiT2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text", "text_mask"),
    rescaled=rescaled,
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
