"""Transformers that attend to a prompt of T5: PixArt alpha and sigma."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.autoencoders import picture_size
from latentjac.models.conditioning import Conditioning
from latentjac.models.t5 import TOKENIZERS, T5TextEncoder

_MOST_TOKENS = 300  # that diffusers reads for sigma; for alpha 120, which is for the tokenizer to say
_SIZE = ("resolution", "aspect_ratio")  # of the picture


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to ``"text"``, ``[B, tokens, channels]``, where ``"text_mask"``, ``[B, tokens]``, is 1.

    Networks for large pictures also get ``"resolution"``, height and width of the picture in pixels, ``[B, 2]``, and
    ``"aspect_ratio"``, ``[B, 1]``. Channels of a learned variance come behind the prediction.
    """
    return network(
        x,
        encoder_hidden_states=conditioning["text"],
        encoder_attention_mask=conditioning["text_mask"],
        timestep=times(x, t),
        added_cond_kwargs={name: conditioning.get(name) for name in _SIZE},
        return_dict=False,
    )[0]


def _gets_size(config: Mapping[str, Any]) -> bool:
    """Whether a network of this configuration is told the size of the picture."""
    told = config.get("use_additional_conditions")
    return bool(config.get("sample_size") == 128 if told is None else told)


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The size of the picture, of networks that are told."""
    height, width = map(float, picture_size(model))
    return {"resolution": torch.tensor([[height, width]]), "aspect_ratio": torch.tensor([[height / width]])}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> T5TextEncoder:
    """The encoder of prompts of a pipeline."""
    return T5TextEncoder(parts["tokenizer"], parts["text_encoder"], _MOST_TOKENS, cleaned)


def cleaned(texts: list[str]) -> list[str]:
    """Texts as its pipeline has them by default: cleaned where bs4 and ftfy are installed, else in small letters."""
    from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha as alpha

    can = alpha.is_bs4_available() and alpha.is_ftfy_available()
    pipeline: Any = alpha.PixArtAlphaPipeline(None, None, None, None, None)  # for the method alone
    return list(pipeline._text_preprocessing(texts, clean_caption=can))


PIXART = Family(
    "PixArtTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    suits=lambda config: not _gets_size(config),
    conditioning=("text", "text_mask"),
    guidance_scale=4.5,
    requires={
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": TOKENIZERS,
        "vae": ("AutoencoderKL",),
    },
    make_text=make_text,
)
PIXART_SIZED = replace(PIXART, suits=_gets_size, conditioning=("text", "text_mask", *_SIZE), inputs=inputs)
