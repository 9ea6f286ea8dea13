"""The structure of networks at one moment, to be copied or sent while other threads use them."""

from __future__ import annotations

import copy
from typing import Any

import torch


def without_values(**things: Any) -> dict[str, Any]:
    """Copies of networks, and of what holds one as its ``autoencoder`` or ``encoder``; tensors are shared.

    What several of them hold, their copies hold in common, too.
    """
    networks = [getattr(thing, "autoencoder", getattr(thing, "encoder", thing)) for thing in things.values()]
    held = [
        tensor
        for network in networks
        if isinstance(network, torch.nn.Module)
        for tensor in (*network.parameters(), *network.buffers())
    ]
    return copy.deepcopy(things, {id(tensor): tensor for tensor in held})
