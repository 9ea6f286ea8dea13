"""How many tokens a sample is to a network, and which of a layer's tokens are the sample's."""

from __future__ import annotations

import math
from typing import Any

import torch

from latentjac.arguments import is_int
from latentjac.models.adapters import Family


def count_tokens(family: Family, network: torch.nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Number of tokens that a sample is to a transformer; of other networks, number of its pixels."""
    if family.tokens is not None:
        return family.tokens(network, sample_shape)
    channels, *sizes = sample_shape
    config = getattr(network, "config", None) or {}
    packed: Any = config.get("in_channels")
    patch: Any = config.get("patch_size")
    pixels = math.prod(sizes)
    if isinstance(patch, (list, tuple)):
        return max(1, pixels // math.prod(patch))
    if not is_int(packed) or not is_int(patch):
        return pixels
    # Some pipelines pack patches as channels, before the network.
    of_one = packed // channels if packed > channels else patch**2 * (config.get("patch_size_t") or 1)
    return max(1, pixels // of_one)


def tokens_of_sample(family: Family, network: torch.nn.Module, sample_shape: tuple[int, ...], name: str) -> slice:
    """Where among the tokens of a layer, of a full module name, those of the sample are."""
    blocks, _, index = name.rpartition(".")
    where = family.joined.get(blocks) if index.isdigit() else None
    if where is None:
        return slice(None)
    count = count_tokens(family, network, sample_shape)
    return {"first": slice(count), "last": slice(-count, None), "last but one": slice(-2 * count, -count)}[where]
