"""The scale of an operator changes nothing but the scale of its singular values."""

from __future__ import annotations

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, RestrictableOperator, with_spectrum

from latentjac.solvers import Krylov, Randomized, Solver, Status, Subspace, effective_rank, svd

SOLVERS = [Krylov, Subspace, Randomized]
SCALES = [(2.0**565, torch.float64), (2.0**-565, torch.float64), (2.0**100, torch.float32), (2.0**-100, torch.float32)]


@pytest.mark.parametrize(("scale", "dtype"), SCALES, ids=str)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.filterwarnings("ignore:svd")
def test_every_solver(solver: type[Solver], scale: float, dtype: torch.dtype) -> None:
    """Squares have no number; with a power of two every bit is the same."""
    values = [SPECTRA["exponential"][:140], SPECTRA["rank 3"]]
    matrix = torch.cat([with_spectrum(v, 150, 220, dtype, seed=i).matrix for i, v in enumerate(values)])
    plain, scaled = (svd(MatrixOperator(matrix * factor), k=5, solver=solver()) for factor in (1.0, scale))
    for name in ("v", "u", "residuals"):
        assert torch.equal(getattr(scaled, name), getattr(plain, name)), name
    assert torch.equal(scaled.s, plain.s * scale)
    assert scaled.point_status == plain.point_status
    for name in plain.certificate.names():
        factor = scale if name in ("s_error", "next_s", "gap") else 1.0
        assert torch.equal(getattr(scaled.certificate, name), getattr(plain.certificate, name) * factor), name
    if solver is Randomized:
        bounds = [bound * scale for bound in plain.metadata["error_bound"]]
        assert scaled.metadata["error_bound"] == bounds


@pytest.mark.parametrize("scale", [1e170, 1e-170, 1e-200])
def test_decimal_scales(scale: float) -> None:
    matrix = with_spectrum(SPECTRA["power law"]).matrix
    basis = svd(MatrixOperator(matrix * scale), k=6, tol=1e-8)
    assert basis.status is Status.CONVERGED
    assert (basis.s / scale).tolist() == pytest.approx(SPECTRA["power law"][:6].tolist(), rel=1e-10)


def test_points_of_different_scale_that_leave_one_by_one() -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    spectra = [easy * 1e-170, torch.linspace(1, 0.5, 100).double(), easy * 1e170]
    matrix = torch.cat([with_spectrum(v / v[0], 150, 220, seed=i).matrix * v[0] for i, v in enumerate(spectra)])
    operator, seen = RestrictableOperator(matrix), []
    basis = svd(operator, k=3, tol=1e-5, solver=Krylov(block_size=3), callback=lambda state: seen.append(state.s))
    assert operator.log, "some have left"
    for i, values in enumerate(spectra):
        assert (basis.s[i] / values[0]).tolist() == pytest.approx((values[:3] / values[0]).tolist(), rel=1e-8)
    torch.testing.assert_close(seen[-1], basis.s, rtol=1e-9, atol=0)


def test_warm_starts_and_refinement() -> None:
    matrix = with_spectrum(SPECTRA["exponential"]).matrix * 1e-170
    cold = svd(MatrixOperator(matrix), k=4)
    warm = svd(MatrixOperator(matrix), k=4, warm_start=cold, refine_with=MatrixOperator(matrix))
    torch.testing.assert_close(warm.s / 1e-170, SPECTRA["exponential"][:4], rtol=1e-6, atol=0)


def test_a_first_product_of_zero_leaves_the_scale_open() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    operator.matrix = operator.matrix * 1e-170
    null = torch.linalg.svd(operator.matrix[0] * 1e170)[2][-2:]
    operator.jvp = lambda v, jvp=operator.jvp: torch.where(jvp(v).abs() < 1e-185, 0.0, jvp(v))
    basis = svd(operator, k=3, warm_start=null)
    assert (basis.s / 1e-170).tolist() == pytest.approx(SPECTRA["power law"][:3].tolist(), rel=1e-6)


@pytest.mark.parametrize("scale", [2.0**400, 2.0**-400])
def test_effective_ranks(scale: float) -> None:
    matrix = with_spectrum(SPECTRA["power law"][:40], 60, 50).matrix
    plain, scaled = (effective_rank(MatrixOperator(matrix * f), k=3, steps=5) for f in (1.0, scale))
    for name in ("participation", "stable", "entropy", "numerical", "cumulative"):
        assert getattr(scaled, name) == getattr(plain, name), name
    assert scaled.energy.value == plain.energy.value * scale * scale
    assert scaled.count_above(0.3 * scale) == plain.count_above(0.3)
    assert scaled.count_holding(0.5) == plain.count_holding(0.5)
