"""Orthonormal rows, with Gram matrices in float64."""

from __future__ import annotations

import torch

# Parts of unit rows below this size are rounding noise.
_NOISE = {torch.float64: 1e-12, torch.float32: 2e-6}
# A float64 Gram matrix resolves directions down to the root of its rounding unit; smaller ones take another round.
_RESOLVED = 1e-6


def orthonormalize(rows: torch.Tensor, against: torch.Tensor | None = None, scale: float = 0.0) -> torch.Tensor:
    """Orthonormal basis of the rows' span, orthogonal to other rows.

    Projections and Gram matrices are repeated (CholeskyQR2 with an eigendecomposition in place of the Cholesky
    factor, so that dependent rows are dropped instead of breaking it).

    Args:
        rows: ``[b, n]``.
        against: Orthonormal rows ``[p, n]`` to stay orthogonal to.
        scale: Size that rounding errors are relative to: the norm of the operator the rows are products of.

    Returns:
        ``[r, n]`` with r <= b; fewer rows where the input is dependent, none where it is all noise.
    """
    noise = _NOISE.get(rows.dtype, 1e-3)
    found = rows[:0] if against is None else against
    known = len(found)
    rows, _ = _unit(rows, noise * scale)
    size = 1.0  # upper bound of what the rows in hand were in the rows at the start
    while len(rows):
        rows, lengths = _unit(_reject(rows, found), noise / size)
        if not len(rows):
            break
        size *= lengths.max().item()
        large, small = _split(rows, max(_RESOLVED, noise / size))
        found = torch.cat([found, _split(_reject(large, found), _RESOLVED)[0]])
        rows, lengths = _unit(small, noise / size)
        size *= lengths.max().item() if len(lengths) else 0.0
    return found[known:]


def _unit(rows: torch.Tensor, floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows longer than the floor, scaled to unit length, and their lengths."""
    lengths = rows.double().norm(dim=1)  # squares of float32 entries can vanish
    rows, lengths = rows[lengths > floor], lengths[lengths > floor]
    return (rows / lengths[:, None]).to(rows.dtype), lengths


def _reject(rows: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    return rows - (rows @ found.T) @ found if len(found) else rows


def _split(rows: torch.Tensor, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal rows for the directions of the span above the cutoff, and the rest as it is."""
    wide = rows.double()
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    keep = values > cutoff**2
    large = (vectors[:, keep] / values[keep].sqrt()).flip(1).T @ wide
    return large.to(rows.dtype), (vectors[:, ~keep].T @ wide).to(rows.dtype)


def orthogonality(rows: torch.Tensor) -> float:
    """Largest entry of ``Q Q^T - I``, in float64."""
    gram = rows.double() @ rows.double().T
    return (gram - torch.eye(len(rows), dtype=gram.dtype, device=gram.device)).abs().max().item()
