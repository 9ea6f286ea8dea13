"""U-Nets that are told a class: class-conditional DDPM, and latent diffusion of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import layers, sample_shape, takes_classes
from latentjac.models.classes import Classes
from latentjac.models.conditioning import Conditioning


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Under ``"class_label"``, ``[B]``."""
    return network(x, t, class_labels=conditioning["class_label"], return_dict=False)[0]


def classes(network: Any) -> Classes:
    """As many as there are embeddings; any number where it is embedded as a timestep is.

    Raises:
        ValueError: If the network takes embeddings of the caller's in place of labels.
    """
    config: Mapping[str, Any] = network.config
    if config.get("class_embed_type") == "identity":
        raise ValueError(
            "Model: network must take labels of classes, got class_embed_type 'identity' (give a call, and embeddings "
            "in a conditioning)"
        )
    return Classes(config["num_class_embeds"] if config.get("class_embed_type") is None else None)


CLASS_UNET = Family(
    "UNet2DModel",
    call,
    sample_shape,
    layers,
    suits=takes_classes,
    conditioning=("class_label",),
    classes=classes,
    guidance_scale=4.0,  # that of DiT: no pipeline has one for these
)
