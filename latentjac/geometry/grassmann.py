"""Geodesics of the Grassmannian, with subspaces given by orthonormal rows."""

from __future__ import annotations

import torch

from latentjac.svd.orthonormal import polish


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
    """
    z, cosines, wt = torch.linalg.svd(q @ p.mT)
    aligned = z.mT @ q
    rest = aligned - (aligned @ p.mT) @ p
    sines = rest.norm(dim=-1)
    angles = torch.atan2(sines, cosines)
    # Angle over sine is 1 to rounding below this.
    factors = torch.where(sines > 1e-9, angles / sines.clamp_min(1e-300), 1.0)
    return wt.mT @ (factors[..., None] * rest)


def grassmann_exp(p: torch.Tensor, tangent: torch.Tensor) -> torch.Tensor:
    """End of the geodesic that starts at the span of p with a velocity, after unit time.

    ``W cos(theta) W^T p + W sin(theta) E`` with ``tangent = W diag(theta) E`` (Edelman, Arias & Smith 1998, 2.65).

    Args:
        p: Orthonormal rows, float64 ``[..., k, n]``.
        tangent: ``[..., k, n]`` with rows orthogonal to those of p.

    Returns:
        Orthonormal rows ``[..., k, n]``.
    """
    w, angles, e = torch.linalg.svd(tangent, full_matrices=False)
    # Rows of E that belong to angles of zero can be anything, but their sine is zero too.
    rows = w @ (angles.cos()[..., None] * (w.mT @ p) + angles.sin()[..., None] * e)
    return polish(rows.reshape(-1, *rows.shape[-2:])).reshape(rows.shape)
