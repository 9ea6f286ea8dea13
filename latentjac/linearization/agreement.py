"""Whether two values of a function at one point are the same but for rounding."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def distance(y: Tensor, expected: Tensor) -> float:
    """Largest difference of two values at a point, relative to the second; inf where shapes differ."""
    if y.shape != expected.shape or y.dtype != expected.dtype:
        return float("inf")
    wide = expected.double().reshape(len(expected), -1)
    sizes = wide.norm(dim=1)
    # A point at which f nearly vanishes has the rounding errors of its neighbours.
    sizes = torch.maximum(sizes, 1e-3 * sizes.max()).clamp_min(torch.finfo(torch.float64).tiny)
    return ((y.double().reshape(len(y), -1) - wide).norm(dim=1) / sizes).max().item()


def refuse_random(name: str, again: float) -> None:
    """Refuse a function whose values at one point differ by so much."""
    raise ValueError(
        f"{name}: f must give the same value whenever it is called, got values that differ by {again:.1e} of their "
        "size at one point (random numbers, or modules in training mode?)"
    )
