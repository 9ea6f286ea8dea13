"""Tangents and transposes of operators, a family a file; importing this registers them all."""

from latentjac.linearization.rules import (
    activations,
    arithmetic,
    attention,
    contraction,
    convolution,
    gated,
    linear_algebra,
    norms,
    pooling,
    rearrange,
    resampling,
    shapes,
    transposed_convolution,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "contraction",
    "convolution",
    "gated",
    "linear_algebra",
    "norms",
    "pooling",
    "rearrange",
    "resampling",
    "shapes",
    "transposed_convolution",
]
