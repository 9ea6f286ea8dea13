"""Geodesics of the Grassmannian, with subspaces given by orthonormal rows."""

from __future__ import annotations

import torch

from latentjac.arguments import check_tensor
from latentjac.geometry.rows import NOT_ORTHONORMAL
from latentjac.linear_algebra import orthogonal_part
from latentjac.public import public
from latentjac.solvers.orthonormal import orthogonality, polish


@public
def grassmann_log(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Initial velocity of the shortest geodesic from the span of p to the span of q.

    With ``q p^T = Z C W^T``, the rows of ``R = Z^T q (I - p^T p)`` are orthogonal and as long as the sines of the
    principal angles: ``W diag(theta / sin theta) R``. No inverse is taken, so angles up to a right one are fine
    (Bendokat, Zimmermann & Absil 2024).

    Args:
        p: Orthonormal rows, float64 ``[..., k, n]``.
        q: The same.

    Returns:
        Tangent ``[..., k, n]`` with rows orthogonal to those of p; its Frobenius norm is the geodesic distance. It
        belongs to the rows p and not to their span alone.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If rows are not orthonormal, or shapes or types differ.
    """
    p = _rows("grassmann_log", "p", p)
    return logarithm(p, _rows("grassmann_log", "q", q, p))


def logarithm(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """:func:`grassmann_log` of rows that were checked."""
    z, cosines, wt = torch.linalg.svd(q @ p.mT)
    aligned = z.mT @ q
    rest = orthogonal_part(aligned, p)
    sines = rest.norm(dim=-1)
    angles = torch.atan2(sines, cosines)
    # Angle over sine is 1 to rounding below this.
    factors = torch.where(sines > 1e-9, angles / sines.clamp_min(1e-300), 1.0)
    return wt.mT @ (factors[..., None] * rest)


@public
def grassmann_exp(p: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    """End of the geodesic that starts at the span of p with a velocity, after unit time.

    ``W cos(theta) W^T p + W sin(theta) E`` with ``tangent = W diag(theta) E`` (Edelman, Arias & Smith 1998, 2.65).

    Args:
        p: Orthonormal rows, float64 ``[..., k, n]``.
        tangent: ``[..., k, n]`` with rows orthogonal to those of p.

    Returns:
        Orthonormal rows ``[..., k, n]``.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If rows of p are not orthonormal, those of the tangent not orthogonal to them, or shapes or types
            differ.
    """
    p = _rows("grassmann_exp", "p", p)
    tangent = _like("grassmann_exp", "tangent", tangent, p)
    if float((tangent @ p.mT).abs().max()) > NOT_ORTHONORMAL * max(1.0, float(tangent.abs().max())):
        raise ValueError("grassmann_exp: tangent must have rows orthogonal to those of p, got others")
    return exponential(p, tangent)


def exponential(p: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    """:func:`grassmann_exp` of rows and a tangent that were checked."""
    w, angles, e = torch.linalg.svd(tangent, full_matrices=False)
    # Rows of E that belong to angles of zero can be anything, but their sine is zero too.
    rows = w @ (angles.cos()[..., None] * (w.mT @ p) + angles.sin()[..., None] * e)
    return polish(rows.reshape(-1, *rows.shape[-2:])).reshape(rows.shape)


def _rows(name: str, argument: str, rows: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    rows = check_tensor(name, argument, rows) if like is None else _like(name, argument, rows, like)
    if rows.ndim < 2 or rows.numel() == 0 or rows.shape[-2] > rows.shape[-1] or rows.dtype != torch.float64:
        got = f"{list(rows.shape)} {rows.dtype}"
        raise ValueError(f"{name}: {argument} must be float64 rows [..., k, n] with k <= n, got {got}")
    error = orthogonality(rows)
    if error > NOT_ORTHONORMAL:
        raise ValueError(f"{name}: {argument} must have orthonormal rows, got |QQ^T - I| of {error:.1e}")
    return rows


def _like(name: str, argument: str, value: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    value = check_tensor(name, argument, value)
    if value.shape[-2:] != p.shape[-2:] or value.dtype != p.dtype or value.device != p.device:
        expected, got = (f"{list(t.shape)} {t.dtype} on {t.device}" for t in (p, value))
        raise ValueError(f"{name}: {argument} must be like p, {expected}, got {got}")
    return value
