"""Subspaces and local bases with known answers, float64."""

from __future__ import annotations

import torch
from networks import rand

from latentjac.solvers import LocalBasis, Status


def orthonormal(k: int, n: int, seed: int) -> torch.Tensor:
    """Random orthonormal rows ``[k, n]``."""
    return torch.linalg.qr(rand(n, k, seed=seed))[0].T


def pair_with_angles(angles: list[float], n: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of two subspaces with these principal angles, each in a random basis of its own."""
    k = len(angles)
    frame = orthonormal(2 * k, n, seed)
    theta = torch.tensor(angles, dtype=torch.float64)[:, None]
    second = theta.cos() * frame[:k] + theta.sin() * frame[k:]
    return orthonormal(k, k, seed + 1) @ frame[:k], orthonormal(k, k, seed + 2) @ second


def basis_of(*jacobians: torch.Tensor, k: int, x: tuple[int, ...] = (), y: tuple[int, ...] = ()) -> LocalBasis:
    """Top k triplets of dense Jacobians ``[m, n]``, one a point, with vectors shaped like x and y."""
    u, s, vt = torch.linalg.svd(torch.stack(jacobians), full_matrices=False)
    tensors = {
        "s": s[:, :k],
        "v": vt[:, :k].reshape(len(s), k, *(x or vt.shape[2:])),
        "u": u.mT[:, :k].reshape(len(s), k, *(y or u.shape[1:2])),
        "residuals": torch.zeros_like(s[:, :k]),
    }
    if len(jacobians) == 1:
        tensors = {name: tensor[0] for name, tensor in tensors.items()}
    done = (Status.CONVERGED,) * len(jacobians)
    return LocalBasis(**tensors, status=Status.CONVERGED, jvps=0, vjps=0, seconds=0.0, point_status=done)


def with_triplets(u: torch.Tensor, s: list[float], v: torch.Tensor) -> torch.Tensor:
    """The matrix ``U^T diag(s) V`` of rows u and v."""
    return u.T @ torch.diag(torch.tensor(s, dtype=torch.float64)) @ v


def largest_angle(a: torch.Tensor, b: torch.Tensor) -> float:
    """Sine of the largest angle between spans of orthonormal rows of one size, by the projectors."""
    return float(torch.linalg.matrix_norm(a.T @ a - b.T @ b, 2))
