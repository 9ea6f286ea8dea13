"""Transformers that are told a class: DiT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.classes import Classes
from latentjac.models.conditioning import Conditioning


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Under ``"class_label"``, ``[B]``; channels of a learned variance come behind the prediction."""
    return network(x, times(x, t), class_labels=conditioning["class_label"], return_dict=False)[0]


def times(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A timestep for each sample, as transformers take it, ``[B]``."""
    return t.expand(len(x)) if t.ndim == 0 else t


def precise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The same in float32 or more, for networks whose time is a fraction."""
    # Not by torch.promote_types: a trace would have it as an operator.
    return times(x, t).to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``; of two in the middle, the later one.

    A transformer has no bottleneck: all of its blocks have as many values. The middle one is as far from the sample as
    from the prediction, as the middle block of a U-Net is.
    """
    return middle_of(network, "transformer_blocks")


def classes(network: Any) -> Classes:
    """Those of the configuration, and one behind them that was trained in place of labels left out."""
    count = network.config["num_embeds_ada_norm"]
    return Classes(count + 1, null=count)


DIT = Family(
    "DiTTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("class_label",),
    classes=classes,
    guidance_scale=4.0,
)
