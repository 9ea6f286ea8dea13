"""A basis on a GPU is the one of the CPU, and stays there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import rand
from solvers.matrices import SPECTRA, MatrixOperator, exact_residuals, largest_sine, with_spectrum

from latentjac.linearization import ProgramLinearization
from latentjac.recording import CudaRecorder
from latentjac.solvers import Krylov, Status, svd
from latentjac.solvers.orthonormal import orthogonality, orthonormalize


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_basis(gpu: torch.device, spectrum: str, dtype: torch.dtype) -> None:
    here = with_spectrum(SPECTRA[spectrum], dtype=dtype)
    there = MatrixOperator(here.matrix.to(gpu))
    expected, found = (svd(operator, k=6, tol=1e-3, solver=Krylov(block_size=4)) for operator in (here, there))
    assert found.status is expected.status is Status.CONVERGED
    assert found.v.device == found.s.device == gpu
    torch.testing.assert_close(found.s.cpu(), expected.s, rtol=1e-5, atol=1e-5)
    live = found.s > 1e-5 * found.s[0]
    assert (exact_residuals(there.matrix[0], found)[live] <= 2e-3).all()
    assert orthogonality(found.v) < 1e-5


@pytest.mark.cuda
def test_orthonormal_rows_of_a_bad_condition(gpu: torch.device) -> None:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(n, 16, generator=generator).double())[0] for n in (16, 5000))
    rows = ((left * torch.logspace(0, -5, 16).double()) @ right.T).float()
    found = orthonormalize(rows.to(gpu)).cpu()
    assert orthogonality(found) < 1e-6
    assert largest_sine(found, right.T) < 0.1


class CountingRecorder(CudaRecorder):
    recordings = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        recorded = super().record(run)
        self.recordings += 1
        return recorded


@pytest.mark.cuda
def test_work_between_passes_is_recorded(gpu: torch.device, caplog: pytest.LogCaptureFixture) -> None:
    """As ``test_recorded.py`` has it, with real graphs."""
    weight, recorder = rand(8, 4, 3, 3, seed=4).float().to(gpu), CountingRecorder(gpu)
    points = [rand(2, 4, 16, 16, seed=seed).float().to(gpu) for seed in range(4)]

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(torch.tanh(x), weight).flatten(1)

    plain = ProgramLinearization(f, points[0], cuda_graphs=False)
    lin = ProgramLinearization(f, points[0], recorder=recorder, cuda_graphs=True)
    counts = []
    with caplog.at_level(logging.WARNING, "latentjac"):
        for x in (*points, points[0], points[0]):
            plain.rebase(x)
            lin.rebase(x)
            found, expected = (svd(operator, k=6, tol=1e-3, solver=Krylov(block_size=4)) for operator in (lin, plain))
            torch.testing.assert_close(found.s, expected.s, rtol=1e-5, atol=1e-5)
            assert found.status is Status.CONVERGED
            true = [lin.vjp(found.u[:, i][None])[0] - found.s[:, i, None, None, None] * found.v[:, i] for i in range(6)]
            residuals = torch.stack([row.flatten(1).norm(dim=1) for row in true], dim=1) / found.s
            assert (residuals <= 1.1e-3).all()
            counts.append(recorder.recordings)
    assert not [r for r in caplog.records if r.name.startswith("latentjac")]
    assert counts[1] > counts[0], "the second run records what the solver does"
    assert counts[-1] == counts[-2]
