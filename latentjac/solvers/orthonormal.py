"""Orthonormal rows for a batch of points, with Gram matrices in float64 and fixed shapes."""

from __future__ import annotations

import torch

from latentjac.kernels import combine_rows, gram, jacobi_eigh, jacobi_fits

# Parts of unit rows below this size are rounding noise.
NOISE = {torch.float64: 1e-12, torch.float32: 2e-6}
# The first round separates what a float64 Gram matrix resolves, the second the rest, the third removes what
# rounding left.
_ROUNDS = 3


def orthonormalize(
    rows: torch.Tensor, against: torch.Tensor | None = None, scale: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Orthonormal basis of the rows' span, orthogonal to other rows.

    Projections and Gram matrices are repeated (CholeskyQR2 with an eigendecomposition in place of the Cholesky
    factor, so that dependent rows vanish instead of breaking it). A direction that is noise becomes a row of
    zeros, which is orthogonal to everything: shapes do not depend on values and nothing waits for the device.

    Args:
        rows: ``[B, b, n]`` or ``[b, n]``.
        against: Orthonormal rows ``[B, p, n]`` to stay orthogonal to; rows of zeros may be among them.
        scale: Size that rounding errors are relative to, ``[B, 1]`` or one number: the norm of the operator the
            rows are products of.

    Returns:
        The shape of rows, with rows of zeros last.
    """
    if rows.ndim == 2:
        return orthonormalize(rows[None], None if against is None else against[None], scale)[0]
    noise = NOISE.get(rows.dtype, 1e-3)
    wide = rows.double()
    lengths = wide.norm(dim=2)
    # What one unit of each row in hand amounts to in the rows at the start, relative to those.
    size = (lengths > noise * scale).double()
    wide = wide * (size / lengths.clamp_min(1e-300))[:, :, None]
    for _ in range(_ROUNDS):
        narrow = _reject(wide.to(rows.dtype), against)
        # CUDA kernels read the rows as they are; elsewhere they are converted once for both products.
        narrow = narrow if rows.is_cuda else narrow.double()
        vectors = eigenvectors(gram(narrow))
        wide = combine_rows(vectors.mT, narrow, wide=True)
        size = (vectors.mT.square() @ size[:, :, None].square())[:, :, 0].sqrt()
        lengths = wide.norm(dim=2)
        keep = lengths * size > noise
        wide = wide * (keep / lengths.clamp_min(1e-300))[:, :, None]
        size = keep * lengths * size
    order = keep.double().argsort(dim=1, descending=True, stable=True)
    return wide.to(rows.dtype).gather(1, order[:, :, None].expand_as(wide))


def complete(rows: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal rows ``[B, count, n]``: rows of zeros, and those that are missing, are filled up at random.

    Args:
        rows: ``[B, q, n]`` with q <= count <= n, orthonormal but for rounding and for rows of zeros.
        count: How many there are to be.
        generator: Source of what is filled in; not used where nothing is missing.
    """
    rows = torch.cat([rows, rows.new_zeros(len(rows), count - rows.shape[1], rows.shape[2])], dim=1)
    dead = ~(rows != 0).any(dim=2)
    if bool(dead.any()):
        random = torch.randn(
            (len(rows), count, rows.shape[2]), generator=generator, dtype=torch.float64, device=generator.device
        )
        order = dead.double().argsort(dim=1, stable=True)[:, :, None].expand_as(rows)
        filled = torch.where(dead[:, :, None], random.to(rows.device), rows.double()).gather(1, order)
        # Reflections give orthonormal columns whatever the rank; the first ones span what is kept.
        whole = torch.linalg.qr(filled.mT)[0].mT
        rows = torch.where(dead[:, :, None], torch.empty_like(whole).scatter_(1, order, whole).to(rows.dtype), rows)
    return polish(rows)


def polish(rows: torch.Tensor) -> torch.Tensor:
    """The orthonormal rows nearest to rows that are orthonormal but for rounding (Löwdin), ``[B, b, n]``."""
    wide = rows.double()
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    return (((vectors * values.clamp_min(1e-12).rsqrt()[:, None, :]) @ vectors.mT) @ wide).to(rows.dtype)


def _reject(rows: torch.Tensor, found: torch.Tensor | None) -> torch.Tensor:
    return rows if found is None or not found.shape[1] else rows - (rows @ found.mT) @ found


def orthogonality(rows: torch.Tensor) -> float:
    """Largest entry of ``Q Q^T - I`` in size, in float64; over all points for ``[B, b, n]``."""
    gram = rows.double() @ rows.double().mT
    return (gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)).abs().max().item()


def eigenvectors(gram: torch.Tensor) -> torch.Tensor:
    """Orthonormal eigenvectors of Gram matrices ``[B, b, b]``, as columns; those of the largest eigenvalues first."""
    if jacobi_fits(gram):
        return jacobi_eigh(gram).vectors
    return torch.linalg.eigh(gram)[1].flip(2)
