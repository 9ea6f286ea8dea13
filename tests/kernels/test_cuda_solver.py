"""The whole solver on the CUDA kernels of its own work, run on the CPU, through their Python faces."""

from collections import Counter

import pytest
import torch
from solvers.matrices import exact_residuals, with_spectrum

from latentjac.solvers import Krylov, Status, svd
from latentjac.solvers.orthonormal import orthogonality, orthonormalize


@pytest.fixture
def on_gpu(emulated, monkeypatch):
    """Tensors pass for a GPU's, whose rows stay in their type."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    return emulated


def counted(emulated):
    return Counter(name for name, _ in emulated.calls)


# A full spectrum that needs a restart; one of rank 3, where the solver has to see that nothing is left.
@pytest.mark.parametrize(("values", "k"), [(1.3 ** -torch.arange(60.0), 4), (torch.tensor([3.0, 2, 1]), 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_basis(on_gpu, values, k, dtype):
    operator = with_spectrum(values.double(), 90, 70, dtype)
    basis = svd(operator, k=k, tol=1e-4, solver=Krylov(block_size=3))
    assert min(counted(on_gpu)[name] for name in ("gram", "combine_rows", "jacobi")) > 5
    assert basis.status is Status.CONVERGED
    exact = torch.zeros(k, dtype=torch.float64)
    exact[: len(values)] = values.double()[:k]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(basis.s.double(), exact, rtol=1e-6, atol=10 * eps)
    torch.testing.assert_close(basis.v @ basis.v.T, torch.eye(k, dtype=dtype), rtol=0, atol=20 * eps)
    assert (exact_residuals(operator.matrix[0], basis)[: len(values)] <= 1.01e-4).all()


def test_orthonormal_rows_of_a_bad_condition(on_gpu):
    """Read as float32, and orthonormal to float32."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(n, 12, generator=generator).double())[0] for n in (12, 600))
    given = ((left * torch.logspace(0, -5, 12).double()) @ right.T).float()
    found = orthonormalize(given)
    assert orthogonality(found) < 1e-6
    assert float((found.double() - (found.double() @ right) @ right.T).norm()) < 0.1
