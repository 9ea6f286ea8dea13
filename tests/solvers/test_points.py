"""Several points at once: each has its own spectrum, status and certificate."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, RestrictableOperator, exact_residuals, largest_sine, with_spectrum

import latentjac
from latentjac.solvers import Krylov, LocalBasis, Randomized, Restrictable, Solver, Status, svd


@pytest.mark.parametrize("kind", [MatrixOperator, RestrictableOperator])
def test_points_with_different_spectra(kind: type[MatrixOperator]) -> None:
    names = ["exponential", "rank 3", "step", "zero"]
    values = [SPECTRA[name][:140] for name in names]
    matrix = torch.cat([with_spectrum(v, 150, 220, seed=n).matrix for n, v in enumerate(values)])
    basis = svd(kind(matrix), k=5, tol=1e-6, solver=Krylov(block_size=4))
    assert basis.s.shape == (4, 5)
    assert basis.v.shape == (4, 5, 220)
    assert basis.u.shape == (4, 5, 150)
    assert basis.point_status == (Status.CONVERGED,) * 4
    exact = torch.linalg.svdvals(matrix)[:, :5]
    torch.testing.assert_close(basis.s, exact, rtol=1e-9, atol=1e-11)
    for i in range(4):
        one = basis.point(i)
        assert one.v.shape == (5, 220)
        gram = one.v @ one.v.T
        torch.testing.assert_close(gram, torch.eye(5, dtype=gram.dtype), rtol=0, atol=1e-10)
        if names[i] not in ("zero", "rank 3"):
            torch.testing.assert_close(one.residuals, exact_residuals(matrix[i], one), rtol=0.01, atol=1e-11)


def test_a_point_among_others_is_as_good_as_alone() -> None:
    spectra = [SPECTRA["exponential"][:140], 1.0 / torch.arange(1, 141).double()]
    matrix = torch.cat([with_spectrum(v, 150, 220, seed=n).matrix for n, v in enumerate(spectra)])
    together = svd(MatrixOperator(matrix), k=4, tol=1e-8)
    for i in range(2):
        alone = svd(MatrixOperator(matrix[i]), k=4, tol=1e-8)
        assert largest_sine(together.v[i], alone.v) < 1e-6
        assert largest_sine(together.u[i], alone.u) < 1e-6


@pytest.mark.parametrize("kind", [MatrixOperator, RestrictableOperator])
@pytest.mark.parametrize("solver", [Krylov(block_size=3), Randomized()], ids=repr)
def test_a_point_gives_the_same_whoever_is_beside_it(kind: type[MatrixOperator], solver: Solver) -> None:
    """To rounding, at a tolerance that leaves much open: an easy point goes on no longer than it would alone."""
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    hard = torch.linspace(1, 0.8, 100).double()
    matrix = torch.cat([with_spectrum(v, 150, 220, seed=n).matrix for n, v in enumerate([easy, hard, easy])])
    options = {"k": 3, "tol": 0.1, "solver": solver}
    together = svd(kind(matrix), **options)
    for i in range(3):
        alone = svd(kind(matrix[i]), **options)
        for name in ("s", "u", "v", "residuals"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name), rtol=1e-8, atol=1e-10)


def test_finished_points_leave_the_batch() -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    hard = torch.linspace(1, 0.5, 100).double()
    matrix = torch.cat([with_spectrum(v, 150, 220, seed=n).matrix for n, v in enumerate([easy, hard, easy])])
    riding, leaving = MatrixOperator(matrix), RestrictableOperator(matrix)
    assert isinstance(leaving, Restrictable)
    assert not isinstance(riding, Restrictable)
    slow, fast = (svd(o, k=3, tol=1e-5, solver=Krylov(block_size=3)) for o in (riding, leaving))
    assert leaving.log == [[1]]
    assert fast.jvps < 0.6 * slow.jvps
    torch.testing.assert_close(fast.s, slow.s, rtol=1e-8, atol=0)
    assert max(largest_sine(fast.v[i], slow.v[i]) for i in (0, 2)) < 1e-4


@pytest.mark.parametrize(("cost", "leaves"), [(0, True), (5, True), (1000, False)])
def test_points_leave_once_they_have_cost_as_much_as_leaving(cost: float, leaves: bool) -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    hard = torch.linspace(1, 0.5, 100).double()
    matrix = torch.cat([with_spectrum(v, 150, 220, seed=n).matrix for n, v in enumerate([easy, hard])])
    operator = RestrictableOperator(matrix, cost)
    basis = svd(operator, k=3, tol=1e-5, solver=Krylov(block_size=3))
    assert operator.log == ([[1]] if leaves else [])
    # With the hard point alone each vector is counted once; what the easy one took along before is its share.
    shared, total = 3, svd(MatrixOperator(matrix), k=3, tol=1e-5, solver=Krylov(block_size=3)).jvps
    if leaves:
        assert total / 2 <= basis.jvps <= total / 2 + shared * 3 + cost
    else:
        assert basis.jvps == total


def test_points_that_cannot_be_separated_stay(caplog: pytest.LogCaptureFixture) -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    matrix = torch.cat([with_spectrum(v, 150, 220).matrix for v in (easy, torch.linspace(1, 0.5, 100).double())])
    operator = RestrictableOperator(matrix)
    operator.restrict = Mock(side_effect=ValueError("no"))  # type: ignore[method-assign]
    basis = svd(operator, k=3, tol=1e-5, solver=Krylov(block_size=3))
    assert basis.point_status == (Status.CONVERGED,) * 2
    operator.restrict.assert_called_once()
    assert caplog.text.count("stay in the batch") == 1


@pytest.mark.filterwarnings("ignore:svd")
def test_each_point_has_its_own_status() -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    matrix = torch.cat([with_spectrum(v, 150, 220).matrix for v in (easy, SPECTRA["power law"][:140])])
    basis = svd(MatrixOperator(matrix), k=3, tol=1e-6, solver=Krylov(block_size=4), max_passes=8)
    assert basis.point_status == (Status.CONVERGED, Status.OUT_OF_PASSES)
    assert basis.status is Status.OUT_OF_PASSES
    assert basis.residuals[0].max() <= 1e-6 < basis.residuals[1].max()


def test_callback_and_warm_start_with_points() -> None:
    matrix = torch.cat([with_spectrum(SPECTRA["power law"][:140], 150, 220, seed=n).matrix for n in range(2)])
    shapes = []
    cold = svd(
        MatrixOperator(matrix),
        k=4,
        solver=Krylov(block_size=4),
        callback=lambda state: shapes.append(state.residuals.shape),
    )
    assert set(shapes) == {(2, 4)}
    warm = svd(MatrixOperator(matrix), k=4, solver=Krylov(block_size=4), warm_start=cold)
    assert warm.jvps < cold.jvps
    torch.testing.assert_close(warm.s, cold.s, rtol=1e-5, atol=0)


def test_save_load_and_print_with_points(tmp_path) -> None:
    matrix = torch.cat([with_spectrum(SPECTRA["exponential"][:140], 150, 220, seed=n).matrix for n in range(2)])
    basis = svd(MatrixOperator(matrix), k=2)
    loaded = LocalBasis.load(basis.save(tmp_path / "b.safetensors"))
    assert torch.equal(loaded.certificate.angle, basis.certificate.angle)
    assert loaded.point_status == basis.point_status
    assert "point 1: converged" in str(loaded)
    assert "2 points, k=2" in repr(loaded)
    with pytest.raises(IndexError, match=r"index must be in \[0, 2\), got 2"):
        basis.point(2)


def test_a_linearization_of_several_points() -> None:
    x = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(10, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    basis = latentjac.svd(latentjac.linearize(lambda x: torch.tanh(x @ weight.T), x), k=3, tol=1e-8)
    dense = (1 - torch.tanh(x @ weight.T).square())[:, :, None] * weight
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(dense)[:, :3], rtol=1e-10, atol=0)


@pytest.mark.parametrize("backend", ["program", "autodiff"])
def test_finished_points_leave_a_linearization(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([torch.tensor([9.0, 8.0, 7.0] + [1e-3] * 57), torch.linspace(1, 0.5, 60)]).double()
    turns = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))[0]
    # The spectrum of a point is its entry of the constant.
    x = torch.randn(2, 60, dtype=torch.float64, generator=generator)
    lin = latentjac.linearize(lambda x, scale: torch.sin((x * scale) @ turns), x, values, backend=backend)
    dense = torch.stack([values[i, :, None] * turns * torch.cos((x[i] * values[i]) @ turns) for i in range(2)])
    monkeypatch.setattr(lin, "_cost_of_again", lambda: 0.0)
    left, restrict = [], lin.restrict
    monkeypatch.setattr(lin, "restrict", lambda points: left.append(list(points)) or restrict(points))
    basis = svd(lin, k=3, tol=1e-6, solver=Krylov(block_size=2))
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(dense)[:, :3], rtol=1e-9, atol=0)
    assert left == [[1]]
