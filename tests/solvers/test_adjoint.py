"""An operator whose jvp and vjp are no pair is named as such, early; rounding is not mistaken for it."""

from __future__ import annotations

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, with_spectrum

from latentjac.solvers import ConvergenceError, Krylov, Randomized, Solver, Status, Subspace, svd

SOLVERS = [Krylov, Subspace, Randomized]


def wrong(size: float, dtype: torch.dtype = torch.float64, name: str = "power law") -> MatrixOperator:
    """One whose transpose is that of another matrix, which differs by so much of the largest value."""
    operator = with_spectrum(SPECTRA[name], dtype=dtype)
    other = (operator.matrix + size * with_spectrum(torch.ones(200).double(), seed=9).matrix).to(dtype)
    operator.vjp = lambda u: torch.einsum("bmn,kbm->kbn", other, u)
    return operator


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_it_is_said(solver: type[Solver], dtype: torch.dtype) -> None:
    with pytest.warns(
        UserWarning, match=r"svd: jvp and vjp are not adjoint after \d+ passes: <u, J v> and <J\^T u, v>"
    ):
        basis = svd(wrong(0.1, dtype), k=6, solver=solver())
    assert basis.status is Status.NOT_ADJOINT
    assert basis.metadata["passes"] <= 8, "no number of passes helps"
    assert basis.certificate.adjoint_mismatch > 1e-3
    with pytest.raises(ConvergenceError, match="the operator is wrong") as caught:
        svd(wrong(0.1, dtype), k=6, solver=solver(), strict=True)
    assert caught.value.basis.status is Status.NOT_ADJOINT


def test_a_part_in_float32_is_named_with_a_tolerance_in_reach() -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    single = operator.matrix.float()
    operator.vjp = lambda u: torch.einsum("bmn,kbm->kbn", single, u.float()).double()
    with pytest.warns(
        UserWarning, match=r"a part of a float64 operator computes in float32: a tol of (\S+) is"
    ) as caught:
        assert svd(operator, k=6, tol=1e-10).status is Status.NOT_ADJOINT
    reach = float(str(caught[0].message).split("a tol of ")[1].split()[0])
    assert svd(operator, k=6, tol=2 * reach).status is Status.CONVERGED


@pytest.mark.filterwarnings("ignore:svd")
def test_a_scaled_transpose_and_a_run_of_one_expansion() -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    operator.vjp = lambda u, vjp=operator.vjp: 0.8 * vjp(u)
    assert svd(operator, k=6).status is Status.NOT_ADJOINT
    assert svd(operator, k=6, max_passes=2).status is Status.NOT_ADJOINT
    easy = MatrixOperator(torch.eye(5, dtype=torch.float64))
    easy.vjp = lambda u: 0.5 * u
    assert svd(easy, k=5).status is Status.NOT_ADJOINT


@pytest.mark.filterwarnings("ignore:svd")
def test_points_are_told_apart() -> None:
    matrix = torch.cat([with_spectrum(SPECTRA["exponential"], seed=seed).matrix for seed in range(2)])
    operator = MatrixOperator(matrix)
    factors = torch.tensor([1.0, 0.9], dtype=torch.float64)[:, None]
    operator.vjp = lambda u, vjp=operator.vjp: factors * vjp(u)
    basis = svd(operator, k=4)
    assert basis.point_status == (Status.CONVERGED, Status.NOT_ADJOINT)
    assert basis.status is Status.NOT_ADJOINT


@pytest.mark.parametrize("name", ["power law", "cluster", "rank 3"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore:svd")
def test_rounding_is_no_such_thing(solver: type[Solver], dtype: torch.dtype, name: str) -> None:
    basis = svd(with_spectrum(SPECTRA[name], dtype=dtype), k=6, solver=solver(), max_passes=30)
    assert basis.status is not Status.NOT_ADJOINT
    assert basis.certificate.adjoint_mismatch < 0.02


def test_an_operator_that_states_its_rounding() -> None:
    """As with bfloat16 or tf32 passes of float32 networks: errors of each product, within what is stated."""
    operator = with_spectrum(SPECTRA["exponential"], dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)

    def rounded(apply):
        def call(rows: torch.Tensor) -> torch.Tensor:
            out = apply(rows)
            return out * (1 + 4e-3 * torch.randn(out.shape, generator=generator))

        return call

    operator.jvp, operator.vjp = rounded(operator.jvp), rounded(operator.vjp)
    operator.eps = 2**-7
    assert svd(operator, k=4, tol=0.05).status is Status.CONVERGED


def test_a_mismatch_that_spoils_nothing_is_in_the_certificate_alone() -> None:
    operator = wrong(1e-7)
    basis = svd(operator, k=6, tol=1e-3)
    assert basis.status is Status.CONVERGED
    mismatch = float(basis.certificate.adjoint_mismatch)
    assert 1e-9 < mismatch < 1e-6
    assert (basis.certificate.s_error >= mismatch * basis.s[0]).all(), "bounds allow for it"
    with pytest.warns(UserWarning, match="not adjoint"):
        assert svd(operator, k=6, tol=1e-10).status is Status.NOT_ADJOINT
