"""Cuts of hair: for each, a shape behind the head and one before it, in coordinates of the head.

The head spans about [-0.5, 0.5] by [-0.56, 0.58], y downwards; the eyes lie at y = 0.04.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .factors import HAIR_STYLES
from .shapes import box, circle, cut, ellipse, join, length

Cut = tuple[Tensor, Tensor]


def _nothing(x: Tensor) -> Tensor:
    return torch.full_like(x, 9.0)


def _parted(x: Tensor, y: Tensor, top: float, slope: float, half_width: float) -> Tensor:
    """Forehead under hair that is parted in the middle, and the face below it."""
    line = (top + slope * (x * x + 0.004).sqrt() - y) / (1 + slope * slope) ** 0.5
    return torch.maximum(line, x.abs() - half_width)


def _buzz(x: Tensor, y: Tensor) -> Cut:
    scalp = ellipse(x, y + 0.06, 0.51, 0.52)
    return _nothing(x), torch.maximum(cut(scalp, box(x, y - 0.3, 0.435, 0.65, 0.2)), y - 0.03)


def _side_part(x: Tensor, y: Tensor) -> Cut:
    scalp = join(ellipse(x, y + 0.1, 0.56, 0.55), ellipse(x + 0.1, y + 0.42, 0.42, 0.27), 0.1)
    face = torch.maximum(ellipse(x - 0.1, y - 0.22, 0.54, 0.6), x - 0.43)
    return _nothing(x), torch.maximum(cut(scalp, face), y - 0.08)


def _bob(x: Tensor, y: Tensor) -> Cut:
    outline = join(ellipse(x, y + 0.08, 0.6, 0.58), box(x, y - 0.14, 0.61, 0.36, 0.16), 0.1)
    return outline, cut(outline, box(x, y - 0.36, 0.41, 0.63, 0.1))


def _long(x: Tensor, y: Tensor) -> Cut:
    outline = join(ellipse(x, y + 0.08, 0.59, 0.57), box(x, y - 0.46, 0.6 + 0.06 * y, 0.5, 0.2), 0.12)
    return outline, cut(outline, _parted(x, y, -0.52, 1.1, 0.42))


def _curls(x: Tensor, y: Tensor) -> Cut:
    angle = torch.atan2(y + 0.14, x)
    outline = torch.maximum(length(x, y + 0.14) - 0.62 - 0.085 * torch.cos(5.5 * angle).abs(), y - 0.34)
    angle = torch.atan2(y - 0.22, x)
    face = length(x / 0.86, y - 0.22) - 0.52 + 0.04 * torch.cos(6.5 * angle).abs()
    return outline, cut(outline, face)


def _bun(x: Tensor, y: Tensor) -> Cut:
    scalp = ellipse(x, y + 0.08, 0.53, 0.53)
    knot = circle(x, y + 0.7, 0.21)
    return knot, torch.maximum(cut(scalp, ellipse(x, y - 0.22, 0.46, 0.58)), y - 0.05)


def _spikes(x: Tensor, y: Tensor) -> Cut:
    # A rounded zigzag around the head, highest at the top, and one along the forehead.
    angle = torch.atan2(x, -y)
    teeth = 0.5 + torch.asin(0.97 * torch.cos(angle * 8.5)) / 3.1
    outline = (length(x, y) - 0.55 - 0.22 * teeth * (0.6 + 0.4 * torch.cos(angle))) / 1.5
    fringe = -0.26 + 0.045 * torch.asin(0.97 * torch.cos(22 * x)) - y
    face = torch.maximum(fringe / 1.3, x.abs() - 0.44)
    return _nothing(x), torch.maximum(cut(outline, face), y - 0.02)


def _pigtails(x: Tensor, y: Tensor) -> Cut:
    scalp = ellipse(x, y + 0.08, 0.54, 0.53)
    tails = ellipse(x.abs() - 0.61 - 0.1 * (y - 0.1), y - 0.2, 0.15, 0.34)
    return tails, torch.maximum(cut(scalp, _parted(x, y, -0.5, 0.75, 0.44)), y - 0.08)


_CUTS: dict[str, Callable[[Tensor, Tensor], Cut]] = {
    "buzz": _buzz,
    "side part": _side_part,
    "bob": _bob,
    "long": _long,
    "curls": _curls,
    "bun": _bun,
    "spikes": _spikes,
    "pigtails": _pigtails,
}


def hair(style: Tensor, x: Tensor, y: Tensor) -> Cut:
    """Distances ``[n, s, s]`` of the hair behind and before the heads, each in its own style ``[n]``."""
    order = torch.argsort(style)
    parts = []
    for index, name in enumerate(HAIR_STYLES):
        chosen = order[style[order] == index]
        if len(chosen):
            parts.append(_CUTS[name](x[chosen], y[chosen]))
    back, front = (torch.cat(part)[torch.argsort(order)] for part in zip(*parts, strict=True))
    return back, front
