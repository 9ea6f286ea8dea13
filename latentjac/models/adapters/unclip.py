"""U-Nets of Stable Diffusion that are told a picture by its embedding: unCLIP, image variations, Paint by Example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.text_unet import TEXT_UNET, refusal_without, sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import EMBEDDING, Embedding, Noising


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to ``"text"``, told an ``"image_embedding"`` with noise and that of its level, ``[B, 2 channels]``."""
    labels = conditioning[EMBEDDING]
    return network(x, t, conditioning["text"], class_labels=labels, return_dict=False)[0]


class VariedUNet(torch.nn.Module):
    """A U-Net that attends to an embedding of a picture where others of its configuration attend to a text.

    Attributes:
        config: That of the U-Net.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the U-Net."""
        return self.unet.config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> VariedUNet:
        """A new one of this configuration, with any weights."""
        from diffusers import UNet2DConditionModel

        return cls(UNet2DConditionModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """What it predicts."""
        return self.unet(x, t, embedding, return_dict=False)[0]


def call_varied(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to an ``"image_embedding"``, ``[B, pictures, channels]``."""
    return network(x, t, conditioning[EMBEDDING])


class PaintingUNet(VariedUNet):
    """The same of one that paints such a picture into another, whose latents and a mask it gets behind the sample."""


def call_painting(
    network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
) -> torch.Tensor:
    """Attend to an ``"image_embedding"``, ``[B, 1, channels]``; of an ``"image"`` is seen what a ``"mask"`` leaves."""
    seen = torch.cat([x, conditioning["image"], 1 - conditioning["mask"]], dim=1)
    return network(seen, t, conditioning[EMBEDDING])


def embeddings(network: Any) -> dict[str, Embedding]:
    """That of a picture, which is followed by that of the level of its noise."""
    width = network.config["projection_class_embeddings_input_dim"]
    return {EMBEDDING: Embedding((width,), given=width // 2)}


def noising(parts: Mapping[str, Any]) -> Noising:
    """What is done to embeddings."""
    return Noising(parts["image_noising_scheduler"], 0, parts["image_normalizer"])


UNCLIP = replace(
    TEXT_UNET,
    suits=lambda config: TEXT_UNET.suits(config) and config.get("class_embed_type") == "projection",
    call=call,
    embeddings=embeddings,
    noising=noising,
    refusal=refusal_without("class_embed_type"),
    guidance_scale=10.0,
    requires={**TEXT_UNET.requires, "image_normalizer": ("StableUnCLIPImageNormalizer",)},
    allows=(
        "image_encoder", "image_noising_scheduler", "prior_tokenizer", "prior_text_encoder", "prior", "prior_scheduler",
    ),
)  # fmt: skip
VARIATION = Family(
    "UNet2DConditionModel",
    call_varied,
    sample_shape,
    lambda network: {name: f"unet.{block}" for name, block in TEXT_UNET.layers(network.unet).items()},
    suits=TEXT_UNET.suits,
    embeddings=lambda network: {EMBEDDING: Embedding((1, network.config["cross_attention_dim"]))},
    refusal=TEXT_UNET.refusal,
    requires={"image_encoder": ("CLIPVisionModelWithProjection",)},
    join=VariedUNet,
)
PAINTING = replace(
    VARIATION,
    call=call_painting,
    suits=lambda config: TEXT_UNET.suits(config) and TEXT_UNET.further(config) == ("mask", "image"),
    conditioning=("image", "mask"),
    embeddings=lambda network: {EMBEDDING: Embedding((1, network.config["cross_attention_dim"]), away="encoded")},
    refusal=lambda config, pipeline: None,
    guidance_scale=5.0,
    requires={"image_encoder": ("PaintByExampleImageEncoder",)},
    join=PaintingUNet,
)
