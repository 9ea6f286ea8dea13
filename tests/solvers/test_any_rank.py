"""Rows of u and v are orthonormal whatever the rank; null vectors fill them up, marked by values of exactly zero."""

from __future__ import annotations

import pytest
import torch
from solvers.matrices import MatrixOperator, with_spectrum

import latentjac
from latentjac.solvers import Krylov, LocalBasis, Randomized, Solver, Status, Subspace, svd
from latentjac.solvers.orthonormal import complete, orthogonality, orthonormalize

SOLVERS = [Krylov, Subspace, Randomized]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}


def of_ranks(ranks: list[int], m: int, n: int, dtype: torch.dtype) -> torch.Tensor:
    """Matrices with singular values 2 ... 1, as many as said."""
    return torch.cat(
        [
            with_spectrum(torch.linspace(2, 1, rank).double(), m, n, dtype, seed=7 + i).matrix
            if rank
            else torch.zeros(1, m, n, dtype=dtype)
            for i, rank in enumerate(ranks)
        ]
    )


def check(basis: LocalBasis, matrix: torch.Tensor, ranks: list[int]) -> None:
    dtype, k = matrix.dtype, basis.k
    for i, rank in enumerate(ranks):
        one, dense = basis.point(i), matrix[i].double()
        assert orthogonality(one.u) < TOLERANCE[dtype]
        assert orthogonality(one.v) < TOLERANCE[dtype]
        assert (one.s > 0).sum() == min(rank, k)
        assert not one.s[rank:].any()
        assert one.residuals.isfinite().all()
        # Null vectors of J and of its transpose, to rounding; their residuals are relative to the largest value.
        null = one.s == 0
        for rows, map_ in ((one.u, dense), (one.v, dense.T)):
            assert (
                float((rows.double() @ map_).norm(dim=1)[null].amax() if null.any() else 0.0) < 1e3 * TOLERANCE[dtype]
            )
        assert one.residuals[null].max().item() < 1e2 * TOLERANCE[dtype] if null.any() else True
        for name in ("left_residuals", "s_error", "angle", "adjoint_mismatch"):
            assert getattr(one.certificate, name).isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("ranks", "k", "m", "n"),
    [
        ([9], 10, 10, 50),  # one missing, of as many as there are
        ([0], 6, 6, 9),
        ([7], 7, 7, 7),  # all triplets of a square matrix
        ([1], 8, 90, 70),
        ([5], 8, 150, 220),
        ([3, 0, 8], 6, 80, 100),  # points with and without
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_are_orthonormal(
    solver: type[Solver], ranks: list[int], k: int, m: int, n: int, dtype: torch.dtype
) -> None:
    matrix = of_ranks(ranks, m, n, dtype)
    operator = MatrixOperator(matrix)
    basis = svd(operator, k=k, solver=solver(), tol=1e-3)
    assert basis.status is Status.CONVERGED
    check(basis, matrix, ranks)
    torch.testing.assert_close(
        basis.s.reshape(len(ranks), k), torch.linalg.svdvals(matrix)[:, :k], rtol=1e-5, atol=3e-6
    )
    warm = svd(operator, k=k, solver=solver(), warm_start=basis)
    check(warm, matrix, ranks)
    assert warm.status is Status.CONVERGED


def test_the_rank_of_a_probability_vector() -> None:
    """The entries of a softmax have a constant sum: one singular value is zero, and its u is the constant vector."""
    weight = torch.randn(10, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lin = latentjac.linearize(
        lambda z: (z @ weight.T).softmax(-1),
        torch.randn(1, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    basis = svd(lin, k=10)
    assert basis.s[-1] == 0
    assert basis.s[-2] > 0
    assert basis.u[-1].abs().tolist() == pytest.approx([0.1**0.5] * 10)
    assert orthogonality(basis.u) < 1e-13


def test_refined_and_started_from_nonsense() -> None:
    exact = of_ranks([3], 80, 100, torch.float64)
    refined = svd(MatrixOperator(exact.float()), k=5, refine_with=MatrixOperator(exact))
    check(refined, exact, [3])
    repeated = torch.randn(1, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).repeat(5, 1)
    null = torch.linalg.svd(exact[0])[2][-5:]
    for solver in SOLVERS:
        for start in (repeated, null):
            basis = svd(MatrixOperator(exact), k=5, solver=solver(), warm_start=start)
            check(basis, exact, [3])


@pytest.mark.filterwarnings("ignore:svd")
def test_what_was_not_computed_is_not_a_null_vector() -> None:
    basis = svd(MatrixOperator(of_ranks([40], 80, 100, torch.float64)), k=20, solver=Krylov(block_size=4), max_passes=2)
    assert orthogonality(basis.u) < 1e-13
    assert orthogonality(basis.v) < 1e-13
    assert not basis.s[4:].any()
    assert basis.residuals[4:].isinf().all(), "as null vectors have finite ones"


@pytest.mark.filterwarnings("ignore:svd")
def test_the_published_vectors_are_unit() -> None:
    matrix = of_ranks([3, 0], 80, 100, torch.float64)
    basis = svd(MatrixOperator(matrix), k=5, solver=Subspace(stop="park2023", vectors="park2023"), max_passes=30)
    torch.testing.assert_close(basis.u.norm(dim=2), torch.ones(2, 5).double(), rtol=1e-12, atol=0)
    assert orthogonality(basis.v) < 1e-13
    assert basis.residuals.isfinite().all()
    assert not basis.s[0, 3:].any()


@pytest.mark.filterwarnings("ignore:svd")
def test_small_values_of_half_precision_are_not_zeros() -> None:
    """Rounding errors of bfloat16 are 1 % of each product, and not of the root of its length times as much."""
    values = torch.cat([torch.ones(4), torch.full((4,), 0.05)]).double()
    basis = svd(with_spectrum(values, dtype=torch.bfloat16), k=8, tol=0.3, max_passes=40)
    assert basis.s[4:].tolist() == pytest.approx([0.05] * 4, rel=0.2)


def test_completion_of_any_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=generator))[0]
    rows = torch.stack([whole[:8], whole[:8]])
    rows[0, [1, 4, 5]] = 0
    rows[1] = 0
    found = complete(rows, 12, generator)
    assert orthogonality(found) < 1e-14
    kept = [0, 2, 3, 6, 7]
    torch.testing.assert_close(found[0, kept], rows[0, kept], rtol=0, atol=1e-14)
    state = generator.get_state()
    torch.testing.assert_close(complete(whole[None], 12, generator)[0], whole, rtol=0, atol=1e-14)
    assert torch.equal(generator.get_state(), state), "nothing was drawn"
    assert orthonormalize(whole[:3], against=whole[:5]).abs().max() == 0
