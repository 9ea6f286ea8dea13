"""Projections that several layers need; rows are batched in front, ``[..., b, n]``."""

from __future__ import annotations

import torch


def part_in_span(rows: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The part of rows ``[..., b, n]`` in the span of orthonormal rows ``[..., k, n]``."""
    return (rows @ known.mT) @ known


def orthogonal_part(rows: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The part of rows ``[..., b, n]`` orthogonal to orthonormal rows ``[..., k, n]``; once, so up to rounding."""
    return rows - part_in_span(rows, known)
