"""Colours, along ramps: a factor in [0, 1] is a place on one."""

from __future__ import annotations

import torch

# Pastel, so that faces and hair stand out from it.
BACKGROUND = ("fad3b0", "f6bab0", "e6bcdc", "c4c4f0", "a8d2f4", "a6e2d2", "cfe6ac", "fbe6a0")
SHIRT = ("d9534f", "ee8b4a", "f0c050", "6bb072", "3b97a6", "456cb4", "70549c", "3e4054")
SKIN = ("ffe2cc", "f5c8a4", "dfa67a", "bb7f55", "8f5b3c", "623c2b")
HAIR = ("29232b", "4b2f27", "7b4a2e", "b4552c", "e0a052", "f0dcb2", "ec9fb4", "9b76c4", "4d7cc4")
IRIS = ("5a3622", "8a5c2c", "6c8a44", "3f9490", "3f7acb")


def ramp(colors: tuple[str, ...], position: torch.Tensor) -> torch.Tensor:
    """Colours ``[n, 3, 1, 1]`` in [0, 1] at positions ``[n]`` in [0, 1] along a ramp, linear between its stops."""
    stops = torch.tensor([list(bytes.fromhex(c)) for c in colors], dtype=position.dtype, device=position.device) / 255
    place = position * (len(colors) - 1)
    below = place.detach().floor().clamp(max=len(colors) - 2).long()
    mixed = torch.lerp(stops[below], stops[below + 1], (place - below)[:, None])
    return mixed[:, :, None, None]


def constant(color: str, like: torch.Tensor) -> torch.Tensor:
    """One colour ``[1, 3, 1, 1]`` of the type and device of another tensor."""
    return torch.tensor(list(bytes.fromhex(color)), dtype=like.dtype, device=like.device).view(1, 3, 1, 1) / 255
