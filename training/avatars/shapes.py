"""Signed distances of plane shapes, negative inside, on tensors of coordinates that broadcast together.

Distances are of first order: exact at the outline, which is all that smooth edges and soft shadows need. Nothing here
is rasterised, so a picture changes smoothly with every number that its shapes are made of.
"""

from __future__ import annotations

import torch
from torch import Tensor

Number = float | Tensor


def length(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean length, with a derivative at the origin too."""
    return (x * x + y * y + 1e-9).sqrt()


def circle(x: Tensor, y: Tensor, radius: Number) -> Tensor:
    """Disc around the origin."""
    return length(x, y) - radius


def ellipse(x: Tensor, y: Tensor, rx: Number, ry: Number) -> Tensor:
    """Ellipse around the origin: the implicit function divided by the length of its gradient."""
    u, v = x / rx, y / ry
    radius = length(u, v)
    return (radius - 1) * radius / length(u / rx, v / ry)


def box(x: Tensor, y: Tensor, half_width: Number, half_height: Number, corner: float) -> Tensor:
    """Box around the origin with round corners."""
    u, v = x.abs() - half_width + corner, y.abs() - half_height + corner
    return length(u.clamp(min=0), v.clamp(min=0)) + torch.maximum(u, v).clamp(max=0) - corner


def crescent(x: Tensor, y: Tensor, half_width: float, rise: Number, thickness: Number, swell: Number) -> Tensor:
    """A thick curved line with round ends.

    Args:
        x: Coordinate along it.
        y: Coordinate across it, downwards.
        half_width: Half of its extent along x.
        rise: How far its ends lie above its middle.
        thickness: Half of its thickness at the ends.
        swell: What its middle has in half thickness beyond that.
    """
    near = x.clamp(-half_width, half_width)
    part = (near / half_width) ** 2
    across = y + rise * (part - 0.5)
    # Distances across a slope are shorter than along y.
    slope = 2 * rise * near / half_width**2
    return length(x - near, across / (1 + slope * slope).sqrt()) - thickness - swell * (1 - part)


def join(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Union whose concave corners are rounded."""
    overlap = (radius - (a - b).abs()).clamp(min=0)
    return torch.minimum(a, b) - overlap * overlap / (4 * radius)


def cut(a: Tensor, *others: Tensor) -> Tensor:
    """What of a lies outside all the others."""
    for other in others:
        a = torch.maximum(a, -other)
    return a


def cover(distance: Tensor, width: float) -> Tensor:
    """Opacity 1 inside, 0 outside, linear over a strip of this width around the outline."""
    return (0.5 - distance / width).clamp(0, 1)


def glow(distance: Tensor, width: float) -> Tensor:
    """Like :func:`cover`, without corners in its profile: for soft light and shadow."""
    t = cover(distance, width)
    return t * t * (3 - 2 * t)
