"""The small dense problems of the solver, in float64.

On a GPU a kernel solves them where they fit, in one launch that the host does not wait for; LAPACK and cuSOLVER
elsewhere.
"""

from __future__ import annotations

import torch

from latentjac.kernels import jacobi_eigh, jacobi_fits, jacobi_svd


def eigenvectors(gram: torch.Tensor) -> torch.Tensor:
    """Orthonormal eigenvectors of Gram matrices ``[B, b, b]``, as columns; those of the largest eigenvalues first."""
    if jacobi_fits(gram):
        return jacobi_eigh(gram).vectors
    return torch.linalg.eigh(gram)[1].flip(2)


def singular_triplets(core: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left vectors as columns, values and right vectors as rows of matrices ``[B, q, p]``, largest first."""
    if jacobi_fits(core):
        found = jacobi_svd(core)
        return found.u, found.s, found.vh
    return torch.linalg.svd(core, full_matrices=False)
