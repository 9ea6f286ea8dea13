"""Small dense float64 problems by Jacobi rotations, a block of threads for each matrix.

One-sided rotations (Hestenes 1958; Demmel & Veselic 1992) make the rows of a matrix orthogonal:

    W M = diag(s) R,  W and R with orthonormal rows,  so  M = W^T diag(s) R.

Of a symmetric positive semidefinite matrix, such as a Gram matrix, the rows of W are eigenvectors and s eigenvalues.
One launch does all sweeps and decides by itself when to stop, so nothing waits for the host, and a CUDA graph can hold
it, which is not so of the drivers that torch calls. On the CPU LAPACK computes.

Errors are small beside each row, not only beside the largest. A NaN in a matrix makes its results NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import reference
from .guards import refuse_differentiated, refuse_tracing
from .launch import launch
from .native import native_for
from .tensors import check_like, check_shape


class JacobiSvd(NamedTuple):
    """Singular triplets, largest first.

    Attributes:
        u: left vectors, columns, shape [B, p, r] with r = min(p, q).
        s: values, shape [B, r].
        vh: right vectors, rows, shape [B, r, q]. What belongs to a value of zero is zero on the longer side.
        off: root of the summed squares of the cosines of all pairs of rows before the last sweep, shape [B]; some
            1e-16 times r where the rotations have converged, zero from LAPACK.
    """

    u: Tensor
    s: Tensor
    vh: Tensor
    off: Tensor


class JacobiEigh(NamedTuple):
    """Eigenpairs, largest first.

    Attributes:
        values: shape [B, p].
        vectors: orthonormal columns, shape [B, p, p].
        off: as in :class:`JacobiSvd`.
    """

    values: Tensor
    vectors: Tensor
    off: Tensor


def jacobi_fits(matrices: Tensor) -> bool:
    """Whether a CUDA kernel takes matrices [B, p, q]: each must fit the shared memory of a block.

    That is 227 KB on an H100 or H200 (169 x 169) and 163 KB on an A100 (143 x 143).

    Raises:
        TypeError: matrices are not a tensor.
        ValueError: the shape is not as above.
    """
    check_shape("jacobi_fits", "matrices", matrices, "[B, p, q]", 3)
    module = native_for("jacobi", matrices) if matrices.dtype == torch.float64 else None
    if module is None or matrices.numel() == 0:
        return False
    return bool(module.jacobi_fits(*sorted(matrices.shape[1:]), matrices.device.index))


def jacobi_svd(matrices: Tensor) -> JacobiSvd:
    """Singular value decomposition of small matrices.

    Args:
        matrices: shape [B, p, q], float64.

    Returns:
        The triplets, min(p, q) of them.

    Raises:
        ValueError: the shape is not as above.
        TypeError: the dtype is not as above.
        RuntimeError: on CUDA, matrices larger than the shared memory of a block (:func:`jacobi_fits`); the tensor takes
            part in differentiation, or the call is being traced.
    """
    _check("jacobi_svd", matrices)
    if not _native(matrices):
        return JacobiSvd(*_by_lapack(reference.small_svd, matrices))
    if matrices.shape[1] > matrices.shape[2]:
        left, s, right, off = _rotate(matrices.mT.contiguous(), True)
        return JacobiSvd(right.mT, s, left, off)
    left, s, right, off = _rotate(matrices.contiguous(), True)
    return JacobiSvd(left.mT, s, right, off)


def jacobi_eigh(matrices: Tensor) -> JacobiEigh:
    """Eigenpairs of small symmetric positive semidefinite matrices.

    Of a matrix with negative eigenvalues the kernel would give singular values; this is not checked.

    Args:
        matrices: shape [B, p, p], float64.

    Returns:
        All pairs.

    Raises:
        ValueError: the shape is not as above.
        TypeError: the dtype is not as above.
        RuntimeError: as :func:`jacobi_svd`.
    """
    name = "jacobi_eigh"
    _check(name, matrices)
    points, rows = matrices.shape[:2]
    check_like(name, "matrices", matrices, (points, rows, rows), torch.float64, matrices.device)
    if not _native(matrices):
        return JacobiEigh(*_by_lapack(reference.small_eigh, matrices))
    left, values, _, off = _rotate(matrices.contiguous(), False)
    return JacobiEigh(values, left.mT, off)


def _check(name: str, matrices: Tensor) -> None:
    refuse_tracing(name)
    refuse_differentiated(name, matrices=matrices)
    check_shape(name, "matrices", matrices, "[B, p, q]", 3)
    if matrices.dtype != torch.float64:
        raise TypeError(f"{name}: matrices must be torch.float64, got {matrices.dtype}")


def _native(matrices: Tensor) -> bool:
    return matrices.numel() > 0 and native_for("jacobi", matrices) is not None


def _by_lapack(decompose: Callable[[Tensor], Sequence[Tensor]], matrices: Tensor) -> list[Tensor]:
    """What LAPACK gives, which does not converge on some matrices with NaN; those get NaN."""
    try:
        return list(decompose(matrices))
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        whole = torch.isfinite(matrices).flatten(1).all(1)
        if whole.all():
            raise
        results = decompose(torch.where(whole[:, None, None], matrices, 0.0))
        return [torch.where(whole.view(-1, *[1] * (r.dim() - 1)), r, torch.nan) for r in results]


def _rotate(matrices: Tensor, with_right: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W, s, R (empty where it is not wanted) and off of contiguous matrices with at least as many columns as rows."""
    module = native_for("jacobi", matrices)
    assert module is not None
    points, rows, columns = matrices.shape
    left, s, off = (matrices.new_empty(shape) for shape in ((points, rows, rows), (points, rows), (points,)))
    right = matrices.new_empty(matrices.shape if with_right else (0,))
    launch(module, "jacobi", matrices.device, {
        "matrices": matrices.data_ptr(), "left": left.data_ptr(), "values": s.data_ptr(),
        "right": right.data_ptr() if with_right else None, "off": off.data_ptr(),
        "points": points, "rows": rows, "columns": columns,
    })  # fmt: skip
    return left, s, right, off
