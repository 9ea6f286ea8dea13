"""The solver's work between passes, recorded and replayed, gives what it gives when it is launched.

The recorder of ``recorder.py`` stands for CUDA graphs: what a replay has to write is NaN before it, and nothing may
wait for the device.
"""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import torch
from networks import rand
from recorder import Recorder
from solvers.matrices import SPECTRA, MatrixOperator, RestrictableOperator, with_spectrum

from latentjac.linearization import ProgramLinearization
from latentjac.solvers import Krylov, LocalBasis, Status, svd


class RecordingOperator(MatrixOperator):
    """A matrix that has a recorder, and can become another one of its shape."""

    def __init__(self, matrix: torch.Tensor, recorder: Recorder | None = None) -> None:
        super().__init__(matrix)
        self.own = recorder or Recorder()

    def recorder(self) -> Recorder:
        return self.own


class RecordingRestrictable(RestrictableOperator, RecordingOperator):
    def __init__(self, matrix: torch.Tensor, recorder: Recorder) -> None:
        RestrictableOperator.__init__(self, matrix)
        self.own = recorder


def small(spectrum: str, dtype: torch.dtype = torch.float64, seed: int = 3) -> torch.Tensor:
    return with_spectrum(SPECTRA[spectrum][:45], m=60, n=50, dtype=dtype, seed=seed).matrix


def same(found: LocalBasis, expected: LocalBasis) -> None:
    for name in ("s", "v", "u", "residuals"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    assert (found.jvps, found.vjps, found.point_status) == (expected.jvps, expected.vjps, expected.point_status)
    for name in expected.certificate.names():
        assert torch.equal(getattr(found.certificate, name), getattr(expected.certificate, name)), name


@pytest.mark.parametrize(
    ("spectra", "dtype"),
    [
        (["power law"], torch.float64),
        (["cluster"], torch.float32),
        (["rank 3"], torch.float32),
        (["step", "power law", "rank 5"], torch.float64),
    ],
    ids=str,
)
def test_runs_on_one_operator(spectra: list[str], dtype: torch.dtype) -> None:
    given = [torch.cat([small(s, dtype, seed) for s in spectra]) for seed in range(3)]
    operator, counts = RecordingOperator(given[0].clone()), []
    for matrix in given:
        operator.matrix.copy_(matrix)
        found = svd(operator, k=5, tol=1e-2, solver=Krylov(block_size=4), max_passes=400)
        same(found, svd(MatrixOperator(matrix), k=5, tol=1e-2, solver=Krylov(block_size=4), max_passes=400))
        assert found.status is Status.CONVERGED
        counts.append((len(operator.own.recordings), operator.own.replays))
    assert counts[1][0] > 3, "what came again in the second run was recorded"
    assert counts[2][1] > counts[1][1]


def test_restarts_and_shapes_that_come_again_in_one_run() -> None:
    matrix = small("exponential")
    operator = RecordingOperator(matrix)
    found = svd(operator, k=4, tol=1e-10, solver=Krylov(block_size=4))
    assert found.jvps > 60, "several restarts"
    assert operator.own.recordings
    same(found, svd(MatrixOperator(matrix), k=4, tol=1e-10, solver=Krylov(block_size=4)))


def test_other_settings_are_other_work() -> None:
    matrix = small("power law")
    operator = RecordingOperator(matrix)
    for _ in range(3):
        for settings in ({"k": 3, "tol": 1e-1}, {"k": 3, "tol": 1e-3}, {"k": 2, "tol": 1e-3}):
            same(
                svd(operator, solver=Krylov(block_size=4), **settings),
                svd(MatrixOperator(matrix), solver=Krylov(block_size=4), **settings),
            )


def test_points_that_leave_take_the_arrays_apart() -> None:
    easy, hard = (small(name) for name in ("rank 5", "exponential"))
    matrix = torch.cat([easy, hard])
    operator = RecordingRestrictable(matrix, Recorder())
    for _ in range(3):
        same(
            svd(operator, k=4, tol=1e-6, solver=Krylov(block_size=2)),
            svd(RestrictableOperator(matrix), k=4, tol=1e-6, solver=Krylov(block_size=2)),
        )
    assert operator.log


def test_a_run_inside_a_run_has_arrays_of_its_own() -> None:
    matrix = small("power law")
    operator, expected = (
        RecordingOperator(matrix),
        svd(MatrixOperator(matrix), k=2, tol=0.1, solver=Krylov(block_size=4)),
    )
    for _ in range(3):
        inner: list[LocalBasis] = []

        def look(state: object, inner: list[LocalBasis] = inner) -> None:
            if not inner:
                inner.append(svd(operator, k=2, tol=0.1, solver=Krylov(block_size=4)))

        for found in (svd(operator, k=2, tol=0.1, solver=Krylov(block_size=4), callback=look), *inner):
            same(found, expected)


def test_what_cannot_be_recorded_is_launched_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("not permitted when stream is capturing\nand more")

    matrix = small("power law")
    operator = RecordingOperator(matrix, Recorder(fails))
    with caplog.at_level(logging.WARNING, "latentjac"):
        found = [svd(operator, k=4, tol=1e-8, solver=Krylov(block_size=3)) for _ in range(2)]
    for basis in found:
        same(basis, svd(MatrixOperator(matrix), k=4, tol=1e-8, solver=Krylov(block_size=3)))
    lines = {r.getMessage() for r in caplog.records}
    assert lines == {
        "svd: work between passes is launched piece by piece, since recording failed: "
        "not permitted when stream is capturing"
    }


def test_nothing_is_kept_longer_than_the_operator() -> None:
    operator = RecordingOperator(small("power law"))
    for _ in range(2):
        svd(operator, k=4, solver=Krylov(block_size=3))
    recorder, alive = weakref.ref(operator.own), weakref.ref(operator)
    del operator
    gc.collect()
    assert alive() is None
    assert recorder() is None


def test_an_operator_that_cannot_be_remembered_begins_anew() -> None:
    class Equal(RecordingOperator):
        __hash__ = None  # as a class that defines equality has it

    matrix = small("power law")
    operator = Equal(matrix)
    for _ in range(2):
        same(
            svd(operator, k=2, tol=0.1, solver=Krylov(block_size=4)),
            svd(MatrixOperator(matrix), k=2, tol=0.1, solver=Krylov(block_size=4)),
        )


def test_a_linearization_records_passes_and_what_is_between_them() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(torch.tanh(x), weight).flatten(1)

    weight, recorder = rand(3, 2, 3, 3, seed=4), Recorder()
    points = [rand(1, 2, 7, 7, seed=seed) for seed in range(3)]
    plain = ProgramLinearization(f, points[0])
    lin = ProgramLinearization(f, points[0], recorder=recorder, cuda_graphs=True)
    for x in (*points, points[0]):
        plain.rebase(x)
        lin.rebase(x)
        found, expected = (svd(operator, k=2, tol=1e-2, solver=Krylov(block_size=2)) for operator in (lin, plain))
        same(found, expected)
    recordings, replays = len(recorder.recordings), recorder.replays
    lin.rebase(points[0])
    found = svd(lin, k=2, tol=1e-2, solver=Krylov(block_size=2))
    assert len(recorder.recordings) == recordings
    # An expansion is four launches: two passes, and what comes after each. The primal is one.
    assert recorder.replays - replays == 1 + 2 * found.metadata["passes"]
    assert plain.recorder() is None
