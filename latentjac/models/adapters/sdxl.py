"""Stable Diffusion XL: U-Nets that get a text as a whole, and sizes of pictures, beside what they attend to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import text_unet
from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.autoencoders import picture_size
from latentjac.models.text import TextEncoders
from latentjac.models.text_files import TOKENIZERS

_FIRST, _SECOND = ("CLIPTextModel",), ("CLIPTextModelWithProjection",)
# Scores of beauty that the refiner is given by default, under the prompt and in what guidance leads away from.
_SCORE, _NEGATIVE_SCORE = 6.0, 2.5


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """``"time_ids"``: sizes of the picture before it was cropped, where it was cropped, and its size or its beauty.

    How many there are follows from the network: six for Stable Diffusion XL, five for its refiner.
    """
    config = model.network.config
    count, rest = divmod(
        config["projection_class_embeddings_input_dim"] - text["pooled"].shape[-1], config["addition_time_embed_dim"]
    )
    if rest or count not in (5, 6):
        raise ValueError(
            "config of UNet2DConditionModel: projection_class_embeddings_input_dim must be the width "
            f"{text['pooled'].shape[-1]} of a text and 5 or 6 times addition_time_embed_dim, got {dict(config)}"
        )
    size = [float(side) for side in picture_size(model)]
    last = size if count == 6 else [_NEGATIVE_SCORE if away else _SCORE]
    sizes = torch.tensor([[*size, 0.0, 0.0, *last]])
    return {"time_ids": sizes, **text_unet.inputs(model, text, scale, away)}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> TextEncoders:
    """The encoders of prompts of a pipeline."""
    numbers = [ending for ending in ("", "_2") if f"text_encoder{ending}" in parts]
    tokenizers, encoders = ([parts[kind + n] for n in numbers] for kind in ("tokenizer", "text_encoder"))
    return TextEncoders(tokenizers, encoders, zeros=_zeros(settings))


def _zeros(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("force_zeros_for_empty_prompt", True))


SDXL = replace(
    TEXT_UNET,
    suits=lambda config: config.get("addition_embed_type") == "text_time",
    conditioning=("text", "pooled", "time_ids"),
    inputs=inputs,
    requires={
        "text_encoder": _FIRST,
        "tokenizer": TOKENIZERS,
        "text_encoder_2": _SECOND,
        "tokenizer_2": TOKENIZERS,
    },
    make_text=make_text,
)
SDXL_REFINER = replace(SDXL, requires={"text_encoder_2": _SECOND, "tokenizer_2": TOKENIZERS})
