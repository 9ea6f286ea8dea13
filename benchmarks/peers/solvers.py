"""Solvers of other libraries on the same operator, counted.

Each takes an operator, k and a tolerance of its own kind and gives right singular vectors ``[k, n]``; what they are
worth is measured afterwards, on the true residual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lobpcg, svds

from latentjac import svd
from latentjac.solvers import Randomized

Tensor = torch.Tensor


class GaveUpError(RuntimeError):
    """A solver took more vectors than it may."""


class Counted:
    """An operator of one point on rows of vectors, that counts them.

    Attributes:
        vectors: Vectors taken through J and through its transpose, together.
        passes: Calls.

    Args:
        operator: Anything with ``x``, ``y``, ``jvp`` and ``vjp``.
        limit: Most vectors; one more raises :class:`GaveUpError`.
    """

    def __init__(self, operator: Any, limit: int = 10**9) -> None:
        self.x, self.y, self._operator, self._limit = operator.x, operator.y, operator, limit
        self.vectors = self.passes = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of J."""
        return self.y.numel(), self.x.numel()

    def jvp(self, v: Tensor) -> Tensor:
        """Rows ``[b, *x.shape]`` times J."""
        self._count(v)
        return self._operator.jvp(v)

    def vjp(self, u: Tensor) -> Tensor:
        """Rows ``[b, *y.shape]`` times the transpose."""
        self._count(u)
        return self._operator.vjp(u)

    def forward(self, rows: Tensor) -> Tensor:
        """``[b, n]`` to ``[b, m]``."""
        return self.jvp(rows.reshape(-1, *self.x.shape)).flatten(1)

    def backward(self, rows: Tensor) -> Tensor:
        """``[b, m]`` to ``[b, n]``."""
        return self.vjp(rows.reshape(-1, *self.y.shape)).flatten(1)

    def _count(self, block: Tensor) -> None:
        self.vectors += len(block)
        self.passes += 1
        if self.vectors > self._limit:
            raise GaveUpError(f"took {self.vectors} vectors")

    def scipy(self) -> LinearOperator:
        """The same for SciPy."""

        def columns(product: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
            def apply(matrix: Any) -> Any:
                block = torch.from_numpy(np.ascontiguousarray(matrix.reshape(matrix.shape[0], -1).T, dtype=np.float32))
                out = product(block).numpy().T
                return out if matrix.ndim == 2 else out[:, 0]

            return apply

        forward, backward = columns(self.forward), columns(self.backward)
        return LinearOperator(self.shape, forward, backward, forward, rmatmat=backward, dtype=np.float32)


def residuals(operator: Any, v: Tensor) -> Tensor:
    """``|J^T u - s v| / s`` of each of the rows v, with s u = J v."""
    v = v.to(operator.x)
    image = operator.jvp(v.reshape(len(v), *operator.x.shape)).flatten(1).double()
    s = image.norm(dim=1)
    return triplet_residuals(operator, image / s[:, None], s, v)


def triplet_residuals(operator: Any, u: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """``|J^T u - s v| / s`` of triplets as they are; for small s they hold more than v alone does in its precision."""
    back = operator.vjp(u.reshape(len(u), *operator.y.shape).to(operator.y)).flatten(1).double()
    return (back - s[:, None] * v.flatten(1).double()).norm(dim=1) / s


def krylov(operator: Counted, k: int, tol: float) -> Tensor:
    """This library's."""
    return svd(operator, k, tol).v.flatten(1)


def randomized(steps: int) -> Callable[[Counted, int, float], Tensor]:
    """Randomized SVD (Halko et al. 2011) with 10 vectors to spare and so many power steps."""

    def solve(operator: Counted, k: int, tol: float) -> Tensor:
        return svd(operator, k, tol, solver=Randomized(power_steps=steps)).v.flatten(1)

    return solve


def scipy_svds(solver: str) -> Callable[[Counted, int, float], Tensor]:
    """SciPy's svds with one of its solvers."""

    def solve(operator: Counted, k: int, tol: float) -> Tensor:
        # ARPACK starts from the shorter side, PROPACK from the rows, LOBPCG from a block of its own.
        length = operator.shape[0] if solver == "propack" else min(operator.shape)
        start = np.random.default_rng(0).standard_normal(length).astype(np.float32)
        v0 = None if solver == "lobpcg" else start
        options = {"rng": 0} if solver != "arpack" else {}
        _, s, vh = svds(operator.scipy(), k, tol=tol, v0=v0, solver=solver, maxiter=2000, **options)
        return torch.from_numpy(vh[np.argsort(-s)].copy())

    return solve


def scipy_lobpcg(operator: Counted, k: int, tol: float) -> Tensor:
    """LOBPCG on J^T J; its tolerance is absolute, so it is given relative to the largest eigenvalue."""
    n = operator.shape[1]
    start = np.random.default_rng(0).standard_normal((n, k)).astype(np.float32)
    normal = operator.scipy()
    gram = _gram(normal)
    scale = float(np.linalg.norm(normal.matmat(start[:, :1])) ** 2 / np.linalg.norm(start[:, :1]) ** 2)
    _, vectors = lobpcg(gram, start, tol=tol * scale, maxiter=200, largest=True)
    return torch.from_numpy(vectors.T.copy())


def _gram(a: LinearOperator) -> LinearOperator:
    def apply(matrix: Any) -> Any:
        return a.rmatmat(a.matmat(matrix.reshape(a.shape[1], -1))).reshape(matrix.shape)

    return LinearOperator((a.shape[1], a.shape[1]), apply, apply, apply, dtype=np.float32)


class _Gram(torch.Tensor):
    """J^T J as something that torch.lobpcg multiplies with."""

    @staticmethod
    def make(operator: Counted) -> _Gram:
        n = operator.shape[1]
        gram = torch.zeros(1).expand(n, n).as_subclass(_Gram)
        gram.operator = operator
        return gram

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is torch.matmul and isinstance(args[0], _Gram):
            operator = args[0].operator
            return operator.backward(operator.forward(args[1].T.contiguous())).T
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


def torch_lobpcg(operator: Counted, k: int, tol: float) -> Tensor:
    """``torch.lobpcg`` on J^T J."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(operator.shape[1], k, generator=generator)
    # Called below its check for subclasses, which would take the matrix apart.
    _, vectors = torch._lobpcg._lobpcg(_Gram.make(operator), k=k, X=start, tol=tol, niter=200, largest=True)
    return torch.as_tensor(vectors.T.contiguous())


PEERS: dict[str, Callable[[Counted, int, float], Tensor]] = {
    "SciPy svds, ARPACK": scipy_svds("arpack"),
    "SciPy svds, PROPACK": scipy_svds("propack"),
    "SciPy svds, LOBPCG": scipy_svds("lobpcg"),
    "SciPy lobpcg": scipy_lobpcg,
    "torch.lobpcg": torch_lobpcg,
}
"""Solvers by name; the tolerance of each is its own."""
