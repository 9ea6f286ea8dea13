"""Dense operators with prescribed spectra, and how far a basis is from the exact one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentjac.solvers import LocalBasis


class MatrixOperator:
    """A matrix, or several as a block-diagonal one, with the interface of a linearization."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix = matrix if matrix.ndim == 3 else matrix[None]
        self.x, self.y = (self.matrix.new_zeros(len(self.matrix), self.matrix.shape[i]) for i in (2, 1))
        self.vectors: list[int] = []

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        self.vectors.append(v.shape[0] * v.shape[1])
        return torch.einsum("bmn,kbn->kbm", self.matrix, v)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        self.vectors.append(u.shape[0] * u.shape[1])
        return torch.einsum("bmn,kbm->kbn", self.matrix, u)


class RestrictableOperator(MatrixOperator):
    """One that can leave out points, and remembers what it was asked to keep."""

    def __init__(self, matrix: torch.Tensor, cost: float = 0.0, log: list[list[int]] | None = None) -> None:
        super().__init__(matrix)
        self.cost = cost
        self.log: list[list[int]] = [] if log is None else log

    def restrict(self, points: Sequence[int]) -> RestrictableOperator:
        self.log.append(list(points))
        return RestrictableOperator(self.matrix[list(points)], self.cost, self.log)

    def restriction_cost(self, count: int) -> float:
        return self.cost


def with_spectrum(
    values: torch.Tensor, m: int = 320, n: int = 260, dtype: torch.dtype = torch.float64, seed: int = 3
) -> MatrixOperator:
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(d, len(values), generator=generator, dtype=torch.float64))[0] for d in (m, n)
    )
    return MatrixOperator(((left * values) @ right.T).to(dtype))


def exact_residuals(matrix: torch.Tensor, basis: LocalBasis) -> torch.Tensor:
    """``|J^T u - s v| / s`` recomputed in float64."""
    s, u, v = basis.s.double(), basis.u.double(), basis.v.double()
    return (u @ matrix.double() - s[:, None] * v).norm(dim=1) / s


def largest_sine(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Sine of the largest angle between the spans of orthonormal rows."""
    outside = found.double() - (found.double() @ exact.double().T) @ exact.double()
    return float(torch.linalg.svdvals(outside)[0])


i = torch.arange(1, 221, dtype=torch.float64)
SPECTRA = {
    "power law": i**-0.5,
    "exponential": 0.05 + torch.exp(-i / 30),
    "flat": torch.ones(220, dtype=torch.float64),
    "step": torch.cat([torch.ones(20), torch.full((150,), 0.1)]).double(),
    "cluster": torch.cat([torch.linspace(1, 0.999, 30), 0.5 / i[:150]]).double(),
    "rank 5": torch.full((5,), 3.0, dtype=torch.float64),
    "rank 3": torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64),
    "zero": torch.zeros(4, dtype=torch.float64),
}
