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
from latentjac.models.seen import Seen


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


def call_masked(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The same with latents of an ``"image"`` behind the sample, zeros where it is painted anew, and where it is not.

    What is left of the picture ends a latent before a ``"mask"``, ``[B, 1, H, W]``.
    """
    left = 1 - _wider(conditioning["mask"])
    return call(network, torch.cat([x, conditioning["image"] * left, left], dim=1), t, conditioning)


def _wider(mask: torch.Tensor) -> torch.Tensor:
    """Where a latent is inside, or one of six around it: not those up on the right and down on the left."""
    height, width = mask.shape[2:]
    around = torch.nn.functional.pad(mask, (1, 1, 1, 1))
    places = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1)]
    moved = [around[:, :, 1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in places]
    return torch.stack(moved).amax(dim=0)


def with_mask(config: Mapping[str, Any]) -> bool:
    """Whether a network of this configuration gets a picture and a mask."""
    return bool(config.get("in_channels", 4) == config.get("out_channels", 8) + 1)


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
    embeddings=lambda network: {EMBEDDING: Embedding((network.config["encoder_hid_dim"],), away="encoded")},
    refusal=refusal,
    guidance_scale=4.0,
    requires={"movq": ("VQModel",)},
    allows=_PRIOR,
)
KANDINSKY_21 = replace(
    KANDINSKY,
    suits=lambda config: config.get("encoder_hid_dim_type") == "text_image_proj",
    conditioning=("text", "pooled"),
    embeddings=lambda network: {EMBEDDING: Embedding((network.config["cross_attention_dim"],), away="encoded")},
    requires={"movq": ("VQModel",), "text_encoder": ("MultilingualCLIP",), "tokenizer": ("XLMRobertaTokenizer",)},
    make_text=make_text,
)
_MASKED: dict[str, Any] = {
    "call": call_masked,
    "seen": lambda network: Seen(hidden=None),
    "refusal": lambda config, pipeline: None,
}
KANDINSKY_INPAINT = replace(
    KANDINSKY,
    suits=lambda config: KANDINSKY.suits(config) and with_mask(config),
    conditioning=("image", "mask"),
    **_MASKED,
)
KANDINSKY_21_INPAINT = replace(
    KANDINSKY_21,
    suits=lambda config: KANDINSKY_21.suits(config) and with_mask(config),
    conditioning=(*KANDINSKY_21.conditioning, "image", "mask"),
    **_MASKED,
)
