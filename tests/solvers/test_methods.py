"""Subspace iteration and the randomized solver, limits, progress, and the choice of a block size."""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from park2023_loop import iterate
from solvers.matrices import SPECTRA, MatrixOperator, exact_residuals, largest_sine, with_spectrum

from latentjac.solvers import Krylov, Randomized, Solver, Status, Subspace, block_size, svd
from latentjac.solvers.operator import Products

GAPPED = torch.cat([torch.linspace(2, 1, 6), 0.5 / torch.arange(1, 201)]).double()


def test_subspace_iteration_converges_and_is_certified() -> None:
    operator = with_spectrum(GAPPED)
    basis = svd(operator, k=6, tol=1e-4, solver=Subspace())
    assert basis.status is Status.CONVERGED
    assert basis.s.tolist() == pytest.approx(GAPPED[:6].tolist(), rel=1e-6)
    torch.testing.assert_close(basis.residuals, exact_residuals(operator.matrix[0], basis), rtol=0.01, atol=1e-12)
    assert basis.jvps == 6 * basis.metadata["passes"] / 2
    assert svd(operator, k=6, tol=1e-4, solver=Krylov(block_size=2)).jvps < basis.jvps


def test_subspace_iterates_are_those_of_the_paper() -> None:
    """V <- right singular vectors of (V J^T) J, from the same first block."""
    operator = with_spectrum(GAPPED)
    matrix, start = operator.matrix[0], torch.linalg.qr(torch.randn(260, 6, dtype=torch.float64))[0].T
    v = start
    for _ in range(3):
        v = torch.linalg.svd((v @ matrix.T) @ matrix, full_matrices=False)[2]
    spans = []
    with pytest.warns(UserWarning, match="out of passes"):
        basis = svd(operator, k=6, tol=1e-12, solver=Subspace(), warm_start=start, max_passes=8)
    spans.append(largest_sine(basis.v, v))
    assert spans[0] < 1e-10


def test_the_rule_of_the_paper() -> None:
    operator = with_spectrum(GAPPED)
    basis = svd(operator, k=6, tol=1e-3, solver=Subspace(stop="park2023"))
    assert basis.status is Status.STOPPED
    assert basis.metadata["passes"] >= 24
    # In a large space the entries of v are small whatever they are: it stops on a subspace that is still wrong. When,
    # depends on the signs of an SVD, and so on the number of threads: sines of 0.5 to 0.9 were seen.
    operator = with_spectrum(SPECTRA["exponential"][:200], 300, 2000)
    loose = svd(operator, k=6, tol=1e-2, solver=Subspace(stop="park2023"))
    exact = torch.linalg.svd(operator.matrix[0], full_matrices=False)[2][:6]
    assert loose.status is Status.STOPPED
    assert largest_sine(loose.v, exact) > 0.1


@pytest.mark.parametrize("power_steps", [0, 2])
@pytest.mark.filterwarnings("ignore:svd")
def test_randomized(power_steps: int) -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    basis = svd(operator, k=6, solver=Randomized(oversampling=8, power_steps=power_steps))
    assert basis.metadata["passes"] == 2 * power_steps + 3
    assert basis.jvps == 14 * (power_steps + 1) + 6
    torch.testing.assert_close(basis.residuals, exact_residuals(operator.matrix[0], basis), rtol=0.01, atol=1e-12)
    errors = SPECTRA["exponential"][:6] - basis.s
    assert (errors < basis.metadata["error_bound"][0]).all()
    assert (basis.status is Status.CONVERGED) == bool((basis.residuals <= 1e-3).all())


@pytest.mark.filterwarnings("ignore:svd")
def test_power_steps_and_oversampling_help() -> None:
    operator = with_spectrum(SPECTRA["power law"])

    def worst(power_steps: int, oversampling: int) -> float:
        basis = svd(operator, k=6, solver=Randomized(oversampling, power_steps))
        return float(basis.residuals.max())

    assert worst(3, 10) < 0.7 * worst(0, 10)
    assert worst(2, 30) < 0.7 * worst(2, 0)


@pytest.mark.parametrize("solver", [Subspace, Randomized])
def test_other_solvers_take_points_and_rank_deficiency(solver: type[Solver]) -> None:
    matrix = torch.cat([with_spectrum(v, 150, 220).matrix for v in (SPECTRA["rank 3"], SPECTRA["rank 5"])])
    basis = svd(MatrixOperator(matrix), k=3, solver=solver())
    assert basis.status is Status.CONVERGED
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(matrix)[:, :3], rtol=1e-9, atol=0)


@pytest.mark.parametrize("solver", [Krylov, Subspace])
@pytest.mark.filterwarnings("ignore:svd")
def test_callbacks_stop_a_run(solver: type[Solver]) -> None:
    seen = []
    basis = svd(with_spectrum(SPECTRA["power law"]), k=3, solver=solver(), callback=lambda s: seen.append(s) or True)
    assert basis.status is Status.INTERRUPTED
    assert len(seen) == 1


@pytest.mark.parametrize("solver", [Krylov, Subspace])
def test_time_limit(solver: type[Solver]) -> None:
    with pytest.warns(UserWarning, match="out of time"):
        basis = svd(with_spectrum(SPECTRA["power law"]), k=3, tol=1e-9, solver=solver(), max_seconds=1e-9)
    assert basis.status is Status.OUT_OF_TIME
    assert basis.metadata["passes"] == 2


@pytest.mark.parametrize("solver", [Krylov(block_size=3), Subspace(), Randomized()], ids=lambda s: type(s).__name__)
def test_every_solver_is_refined_by_krylov(solver: Solver) -> None:
    exact = with_spectrum(GAPPED)
    rough = MatrixOperator(exact.matrix.float())
    basis = svd(rough, k=6, tol=1e-9, solver=solver, refine_with=exact)
    assert basis.status is Status.CONVERGED
    assert basis.metadata["solver"] == type(solver).__name__
    assert basis.metadata["refine_jvps"] > 0
    assert basis.v.dtype == torch.float64
    torch.testing.assert_close(basis.residuals, exact_residuals(exact.matrix[0], basis), rtol=0.01, atol=1e-12)


def test_solvers_are_values() -> None:
    """Equal ones are equal, whatever kind of number they were made of, and none can be changed."""
    assert Krylov(np.int64(4)) == Krylov(4) != Krylov()
    assert len({Krylov(), Krylov(None, 1), Subspace(), Randomized(), Randomized(np.uint8(10))}) == 3
    with pytest.raises(FrozenInstanceError):
        Krylov().block_size = 4
    with pytest.raises(TypeError, match="unexpected keyword argument 'block_size'"):
        Subspace(block_size=4)


def test_progress_bar(capsys) -> None:
    states = []
    svd(with_spectrum(SPECTRA["exponential"]), k=3, progress=True, callback=states.append)
    assert "3/3" in capsys.readouterr().err
    assert states[-1].converged == 3


def test_interrupted_before_anything_is_an_interrupt() -> None:
    operator = with_spectrum(SPECTRA["power law"])

    def interrupted(v: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    operator.jvp = interrupted
    with pytest.raises(KeyboardInterrupt):
        svd(operator, k=2)


def test_cost_curve_is_fitted() -> None:
    sizes = [1, 2, 4, 8]
    curve = block_size.fit(sizes, [3.0 + 0.5 * b for b in sizes])
    assert (curve.c0, curve.c1) == pytest.approx((3.0, 0.5))
    flat = block_size.fit(sizes, [1.0, 1.0, 1.0, 1.0])
    assert flat.best_block(8) == block_size.LARGEST
    assert block_size.CostCurve(0.0, 1.0).best_block(50) == block_size.SMALLEST
    # A tenfold overhead is worth larger blocks, and so is a larger k.
    assert block_size.CostCurve(10.0, 1.0).best_block(8) == 8
    assert block_size.CostCurve(10.0, 1.0).best_block(50) == 16


def test_measured_passes_choose_the_block_where_they_may(monkeypatch) -> None:
    """A clock that charges each pass 40 units and each probe one."""
    operator, clock = with_spectrum(SPECTRA["power law"]), [0.0]
    jvp = operator.jvp

    def charged(v: torch.Tensor) -> torch.Tensor:
        clock[0] += 40.0 + len(v)
        return jvp(v)

    operator.jvp = charged
    monkeypatch.setattr(block_size.time, "perf_counter", lambda: clock[0])
    basis = svd(operator, k=8, solver=Krylov(block_size="measured"))
    assert basis.block_size == block_size.CostCurve(40.0, 1.0).best_block(8) == 16
    assert basis.metadata["cost_curve"] == pytest.approx({"c0": 40.0, "c1": 1.0})
    # The choice repeats the run to the bit; what was timed, 1 + 1 + 2 + 4 + 8 + 16 vectors, is counted.
    repeat = svd(with_spectrum(SPECTRA["power law"]), k=8, solver=Krylov(block_size=16))
    assert torch.equal(repeat.v, basis.v)
    assert basis.jvps == repeat.jvps + 32
    assert svd(operator, k=8, solver=Krylov(block_size="measured")).jvps == repeat.jvps, "measured once"
    assert "cost_curve" not in svd(operator, k=8).metadata, "not asked for"
    assert svd(operator, k=8).block_size == svd(with_spectrum(SPECTRA["power law"]), k=8).block_size == 2


@pytest.mark.parametrize("slow", [0, 1])
def test_one_slow_measurement_changes_no_block(monkeypatch, slow: int) -> None:
    """One of the two passes over one probe, and one of the solver's own work, take a thousand times as long."""
    operator, clock, passes, works = with_spectrum(SPECTRA["power law"], 320, 255 + slow), [0.0], [], []
    jvp, combine = operator.jvp, block_size.combine_rows

    def charged(v: torch.Tensor) -> torch.Tensor:
        clock[0] += (4000.0 if len(passes) == slow else 4.0) + len(v)
        passes.append(len(v))
        return jvp(v)

    def work(*args: torch.Tensor) -> torch.Tensor:
        clock[0] += 1000.0 if len(works) == slow else 1.0
        works.append(args)
        return combine(*args)

    operator.jvp = charged
    monkeypatch.setattr(block_size, "combine_rows", work)
    monkeypatch.setattr(block_size.time, "perf_counter", lambda: clock[0])
    basis = svd(operator, k=8, solver=Krylov(block_size="measured"))
    assert works, "own work of this shape was not timed before"
    assert basis.metadata["cost_curve"] == pytest.approx({"c0": 4.0, "c1": 1.0})
    assert basis.block_size == block_size.CostCurve(4.0, 1.0).best_block(8, own=0.5) == 4


@pytest.mark.parametrize(("tol", "most"), [(1e-12, 4), (1e-4, 50)])
def test_vectors_of_the_paper(tol: float, most: int) -> None:
    """Singular values and v of the next block, u of the last: against the published loop on the dense matrix."""
    operator = with_spectrum(GAPPED)
    matrix = operator.matrix[0]
    start = torch.linalg.qr(torch.randn(260, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0].T
    u, s, v = iterate(matrix, start, tol, most=most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four iterations do not converge
        basis = svd(operator, 6, tol, solver=Subspace("park2023", "park2023"), warm_start=start, max_passes=2 * most)
    torch.testing.assert_close(basis.s, s, rtol=1e-10, atol=0)
    sign = (basis.v * v).sum(1, keepdim=True).sign()
    torch.testing.assert_close(basis.v, sign * v, rtol=0, atol=1e-9)
    u = u / u.norm(dim=1, keepdim=True)
    torch.testing.assert_close(basis.u, (basis.u * u).sum(1, keepdim=True).sign() * u, rtol=0, atol=1e-9)
    assert (basis.v @ matrix.T * basis.u).sum(1).min() > 0
    torch.testing.assert_close(basis.residuals, exact_residuals(matrix, basis), rtol=1e-6, atol=1e-9)
    left = (basis.v @ matrix.T - basis.s[:, None] * basis.u).norm(dim=1) / basis.s
    torch.testing.assert_close(basis.certificate.left_residuals, left, rtol=1e-6, atol=1e-9)
    if most == 4:
        assert basis.certificate.orthogonality_u > 1e-3  # as published: not orthogonal
        assert basis.status is Status.OUT_OF_PASSES
    else:  # which of the two depends on the signs of an SVD
        assert basis.status in (Status.STOPPED, Status.OUT_OF_PASSES)


def test_operators_get_ready_before_they_are_timed() -> None:
    operator, log = with_spectrum(SPECTRA["power law"]), []
    jvp = operator.jvp
    operator.prepare = lambda count: log.append(f"ready for {count}")
    operator.jvp = lambda v: log.append(f"take {len(v)}") or jvp(v)
    svd(operator, k=2, solver=Krylov(block_size="measured"))
    first = log.index("take 2")
    assert log[: first + 1] == ["ready for 1", "take 1", "ready for 1", "take 1", "ready for 2", "take 2"]
    log.clear()
    for size in ("measured", None):
        svd(operator, k=2, solver=Krylov(block_size=size))
        assert not any("ready" in line for line in log), "nothing is timed"


def test_the_rule_of_the_block_size() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    sizes = {k: block_size.ruled(Products(operator), k) for k in (1, 4, 8, 20, 50, 130)}
    assert sizes == {1: 2, 4: 2, 8: 2, 20: 4, 50: 8, 130: 8}
    operator.pass_overhead = 40.0
    assert block_size.ruled(Products(operator), 8) == 16
    assert svd(operator, k=8).block_size == 16
    small = with_spectrum(SPECTRA["rank 5"], 40, 300)
    assert [block_size.ruled(Products(small), k) for k in (1, 6, 20)] == [4, 6, 8]
