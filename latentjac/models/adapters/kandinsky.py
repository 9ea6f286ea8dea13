"""U-Nets that are told a picture by its embedding: Kandinsky 2.2, and 2.1 with a text beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import pixel_unet
from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import EMBEDDING, Embedding
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts under an ``"image_embedding"``, ``[B, channels]``.

    With a ControlNet of its own it gets a picture, ``"control"``, ``[B, 3, height, width]`` in [0, 1]; Kandinsky 2.1
    attends to ``"text"``, ``[B, tokens, channels]``, and gets it as a whole, ``"pooled"``, ``[B, channels]``. Channels
    of a learned variance come behind the prediction.
    """
    added = {"image_embeds": conditioning[EMBEDDING]}
    for name, ours in (("hint", "control"), ("text_embeds", "pooled")):
        if ours in conditioning:
            added[name] = conditioning[ours]
    return network(x, t, conditioning.get("text"), added_cond_kwargs=added, return_dict=False)[0]


def further(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The picture of its own ControlNet."""
    return ("control",) if config.get("addition_embed_type") == "image_hint" else ()


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents, without the channels that inpainting adds."""
    _, height, width = pixel_unet.sample_shape(network)
    return network.config["out_channels"] // 2, height, width


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets a mask and a picture as well."""
    expected = config.get("out_channels", 8) // 2
    if config.get("in_channels", 4) != expected and "Controlnet" not in pipeline:
        return f"in_channels must be {expected}, half of out_channels, got {config['in_channels']} in a {pipeline}"
    return None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The encoder of prompts of Kandinsky 2.1."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        device = next(pipeline.text_encoder.parameters()).device
        pooled, text, _ = pipeline._encode_prompt(prompts, device, 1, False)
        return {"text": text, "pooled": pooled}

    return PipelineText("KandinskyPipeline", parts, encode)


# Of the prior, which makes embeddings of texts beforehand.
_PRIOR = (
    "prior_prior", "prior_image_encoder", "prior_text_encoder", "prior_tokenizer", "prior_scheduler",
    "prior_image_processor",
)  # fmt: skip
KANDINSKY = Family(
    "UNet2DConditionModel",
    call,
    sample_shape,
    pixel_unet.layers,
    suits=lambda config: config.get("encoder_hid_dim_type") == "image_proj",
    further=further,
    embeddings=lambda network: {EMBEDDING: Embedding((network.config["encoder_hid_dim"],), zeros=False)},
    refusal=refusal,
    guidance_scale=4.0,
    requires={"movq": ("VQModel",)},
    allows=_PRIOR,
)
KANDINSKY_21 = replace(
    KANDINSKY,
    suits=lambda config: config.get("encoder_hid_dim_type") == "text_image_proj",
    conditioning=("text", "pooled"),
    embeddings=lambda network: {EMBEDDING: Embedding((network.config["cross_attention_dim"],), zeros=False)},
    requires={"movq": ("VQModel",), "text_encoder": ("MultilingualCLIP",), "tokenizer": ("XLMRobertaTokenizer",)},
    make_text=make_text,
)
