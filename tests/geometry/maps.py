"""Feature maps with closed-form metrics, lengths and curvatures."""

from __future__ import annotations

import torch

RADIUS = 2.5
GROWTH, RATE = 0.3, 1.7  # of the spiral


def sphere(x: torch.Tensor) -> torch.Tensor:
    """Polar angle and longitude to space; ``G = RADIUS^2 diag(1, sin^2 polar)``."""
    polar, longitude = x.unbind(1)
    flat = polar.sin()
    return RADIUS * torch.stack([flat * longitude.cos(), flat * longitude.sin(), polar.cos()], 1)


def spiral(x: torch.Tensor) -> torch.Tensor:
    """One logarithmic spiral for each coordinate of x, the j-th of size j + 1, side by side.

    Speed ``(j + 1) hypot(GROWTH, RATE) exp(GROWTH x)``, turning RATE, stretch GROWTH.
    """
    sizes = torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device) * (GROWTH * x).exp()
    return torch.cat([sizes * (RATE * x).cos(), sizes * (RATE * x).sin()], 1)


def square(x: torch.Tensor) -> torch.Tensor:
    """``3 x + 2 x^2`` of each coordinate."""
    return 3 * x + 2 * x**2
