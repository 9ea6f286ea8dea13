"""A basis on a GPU is the one of the CPU, and stays there."""

from __future__ import annotations

import os

import pytest
import torch
from svd.matrices import SPECTRA, MatrixOperator, exact_residuals, largest_sine, with_spectrum

from latentjac.svd import Status, svd
from latentjac.svd.orthonormal import orthogonality, orthonormalize


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        if os.environ.get("LATENTJAC_REQUIRE_CUDA") == "1":
            pytest.fail("LATENTJAC_REQUIRE_CUDA=1, but no GPU is available")
        pytest.skip("no GPU is available")
    return torch.device("cuda", 0)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_basis(gpu: torch.device, spectrum: str, dtype: torch.dtype) -> None:
    here = with_spectrum(SPECTRA[spectrum], dtype=dtype)
    there = MatrixOperator(here.matrix.to(gpu))
    expected, found = (svd(operator, k=6, tol=1e-3, block_size=4) for operator in (here, there))
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
