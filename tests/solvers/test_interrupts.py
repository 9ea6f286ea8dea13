"""Ctrl-C: the best basis so far, for a caller who looks how it ended; who does not is interrupted."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from interrupted import interrupt_at
from solvers.matrices import SPECTRA, MatrixOperator, exact_residuals, with_spectrum

import latentjac
from latentjac.solvers import (
    ConvergenceError,
    Krylov,
    LocalBasis,
    Randomized,
    Solver,
    Status,
    Subspace,
    effective_rank,
    svd,
)
from latentjac.solvers.building import building

pytestmark = pytest.mark.filterwarnings("ignore:svd")
SOLVERS = [Krylov, Subspace, Randomized]


def operator() -> MatrixOperator:
    return with_spectrum(SPECTRA["power law"])


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_hands_back_what_there_is(solver: type[Solver], monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    given = operator()
    with pytest.warns(UserWarning, match="svd: interrupted"):
        basis = svd(given, k=3, solver=solver())
    assert basis.status is Status.INTERRUPTED
    torch.testing.assert_close(basis.residuals, exact_residuals(given.matrix[0], basis), rtol=0.01, atol=1e-12)
    assert svd(operator(), k=3).status is Status.CONVERGED, "the status was read"


@pytest.mark.parametrize("solver", SOLVERS)
def test_before_there_is_anything_it_is_an_interrupt(solver: type[Solver], monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        svd(operator(), k=3, solver=solver())
    assert svd(operator(), k=3).status is Status.CONVERGED, "nothing is left of it"


def test_a_loop_that_looks_at_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    done = []

    def loop() -> None:
        for _ in range(5):
            done.append(svd(operator(), k=3).s[0])
            gc.collect()  # nobody keeps the basis

    with pytest.raises(KeyboardInterrupt, match="svd: not begun, since Ctrl-C interrupted the basis before"):
        loop()
    assert len(done) == 1
    assert svd(operator(), k=3).status is Status.CONVERGED, "once"


LOOKS = {
    "status": lambda basis, path: basis.status,
    "point_status": lambda basis, path: basis.point_status,
    "repr": lambda basis, path: repr(basis),
    "print": lambda basis, path: str(basis),
    "save": lambda basis, path: basis.save(path / "b.safetensors"),
    "a copy": lambda basis, path: basis.to(dtype=torch.float32).status,
}


@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_it_is_noticing(look: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    basis = svd(operator(), k=3)
    LOOKS[look](basis, tmp_path)
    assert svd(operator(), k=3).status is Status.CONVERGED


@pytest.mark.parametrize("use", [lambda b: b.s.sum(), lambda b: b.to("cpu"), lambda b: b.residuals.max()])
def test_using_it_is_not(use, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    basis = svd(operator(), k=3)
    use(basis)
    with pytest.raises(KeyboardInterrupt):
        svd(operator(), k=3)


def test_a_point_of_several_is_still_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    matrix = torch.cat([with_spectrum(SPECTRA["power law"], seed=seed).matrix for seed in range(2)])
    svd(MatrixOperator(matrix), k=3).point(1)
    with pytest.raises(KeyboardInterrupt):
        svd(operator(), k=3)


def test_strict_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    with pytest.raises(ConvergenceError, match="interrupted") as caught:
        svd(operator(), k=3, strict=True)
    with pytest.raises(KeyboardInterrupt):
        svd(operator(), k=3)
    assert caught.value.basis.status is Status.INTERRUPTED


def test_a_callback_that_stops_is_no_ctrl_c() -> None:
    svd(operator(), k=3, callback=lambda state: True)
    assert svd(operator(), k=3).status is Status.CONVERGED


def test_during_the_search_for_hidden_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.cat([torch.ones(24), torch.linspace(0.99, 0.3, 200)]).double()
    count = interrupt_at(monkeypatch)
    svd(with_spectrum(values), k=20)
    total = count[0]
    statuses = set()
    for product in (total - 9, total - 4, total):
        with monkeypatch.context() as patch:
            interrupt_at(patch, product)
            statuses.add(svd(with_spectrum(values), k=20).status)
    assert statuses == {Status.INTERRUPTED}


def test_what_is_built_on_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        effective_rank(operator(), k=3)
    assert svd(operator(), k=3).status is Status.CONVERGED


def test_messages_and_statuses_of_what_is_built() -> None:
    with building("outer") as outer:
        with pytest.warns(UserWarning, match=r"^outer: out of passes after 2 passes"):
            svd(operator(), k=3, max_passes=2)
        with building("inner") as inner:
            svd(operator(), k=3)
        assert (inner.function, inner.status) == ("outer", Status.CONVERGED)
    assert outer.statuses == [Status.OUT_OF_PASSES, Status.CONVERGED]
    assert outer.status is Status.OUT_OF_PASSES
    with pytest.warns(UserWarning, match=r"^svd: out of passes"):
        svd(operator(), k=3, max_passes=2)


def test_other_threads_are_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    basis, found = svd(operator(), k=3), []
    thread = threading.Thread(target=lambda: found.append(svd(operator(), k=3)))
    thread.start()
    thread.join()
    assert found[0].status is Status.CONVERGED
    assert basis.status is Status.INTERRUPTED


def test_the_next_function_of_the_library_notices(tiny_model, tiny_point, monkeypatch: pytest.MonkeyPatch) -> None:
    direction, picture = torch.ones(3, 16, 16), torch.zeros(1, 3, 16, 16)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        bases = [latentjac.local_basis(tiny_model, tiny_point, 2) for _ in range(1)]
    with pytest.raises(KeyboardInterrupt, match="edit: not begun"):
        latentjac.edit(tiny_model, tiny_point, direction, 1.0, method=latentjac.editing.Linear(num_steps=1))
    for call in (
        lambda: latentjac.invert(tiny_model, picture, 2),
        lambda: latentjac.geometry.parallel_transport(bases[0].v[:1], bases[0], bases[0]),
        lambda: latentjac.geometry.subspace_distance(bases[0], bases[0]),
        lambda: latentjac.local_basis(tiny_model, tiny_point, 2),
    ):
        with monkeypatch.context() as patch:
            interrupt_at(patch, 4)
            bases[0] = svd(operator(), k=3)
        with pytest.raises(KeyboardInterrupt, match="not begun"):
            call()


def test_a_seen_interruption_is_a_warning_of_what_uses_the_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    basis = svd(operator(), k=3)
    assert isinstance(basis, LocalBasis)
    assert basis.status is Status.INTERRUPTED
    with pytest.warns(UserWarning, match=r"principal_angles: a did not converge: interrupted, with largest residual"):
        latentjac.geometry.principal_angles(basis, svd(operator(), k=3))
