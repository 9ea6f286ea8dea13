"""The whole solver on the CUDA kernels of its own work, run on the CPU, through their Python faces."""

import pytest
import torch
from cuda_on_cpu import CombineRows, Gram, Jacobi, Rows, WeightedRows
from solvers.matrices import exact_residuals, with_spectrum

from latentjac.kernels import jacobi, rows
from latentjac.solvers import Krylov, Status, svd
from latentjac.solvers.orthonormal import orthogonality, orthonormalize


class Module:
    """The part of latentjac._native that these kernels need, over the emulator."""

    def __init__(self, emulator):
        self.emulator, self.calls = emulator, dict.fromkeys(("gram", "combine_rows", "jacobi"), 0)

    def _call(self, name, *arguments):
        self.calls[name] += 1
        self.emulator.call(name, *arguments)

    def gram_workspace(self, *sizes):
        return self.emulator.library.gram_workspace(*sizes)

    def cuda_gram(self, device, stream, workspace, a, b, out, sizes, dtype):
        self._call("gram", Gram(Rows(*a), Rows(*b), out, *sizes, dtype), workspace)

    def cuda_combine_rows(self, device, stream, first, second, out, sizes, dtype, wide):
        parts = [WeightedRows(*part[:4], Rows(*part[4:7]), part[7]) for part in (first, second)]
        self._call("combine_rows", CombineRows(*parts, out, *sizes, dtype, wide))

    def jacobi_needs(self, *sizes):
        return self.emulator.library.jacobi_needs(*sizes)

    def jacobi_room(self, device):
        return 163 << 10

    def jacobi_workspace(self, points, rows, columns, device):
        return self.emulator.library.jacobi_workspace(points, rows, columns)

    def cuda_jacobi(self, device, stream, workspace, at, sizes):
        self._call("jacobi", Jacobi(*at, *sizes), workspace)


def call(module, name, given):
    getattr(module, f"cuda_{name}")(0, 0, *given)


@pytest.fixture
def module(emulator, monkeypatch):
    """Tensors pass for CUDA tensors, and the emulator for the native module."""
    found = Module(emulator)
    for face in (rows, jacobi):
        monkeypatch.setattr(face, "native_for", lambda tensor: found)
        monkeypatch.setattr(face, "launch", lambda module, name, device, *given: call(module, name, given))
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    return found


# A full spectrum that needs a restart; one of rank 3, where the solver has to see that nothing is left.
@pytest.mark.parametrize(("values", "k"), [(1.3 ** -torch.arange(60.0), 4), (torch.tensor([3.0, 2, 1]), 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_basis(module, values, k, dtype):
    operator = with_spectrum(values.double(), 90, 70, dtype)
    basis = svd(operator, k=k, tol=1e-4, solver=Krylov(block_size=3))
    assert min(module.calls.values()) > 5
    assert basis.status is Status.CONVERGED
    exact = torch.zeros(k, dtype=torch.float64)
    exact[: len(values)] = values.double()[:k]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(basis.s.double(), exact, rtol=1e-6, atol=10 * eps)
    torch.testing.assert_close(basis.v @ basis.v.T, torch.eye(k, dtype=dtype), rtol=0, atol=20 * eps)
    assert (exact_residuals(operator.matrix[0], basis)[: len(values)] <= 1.01e-4).all()


def test_orthonormal_rows_of_a_bad_condition(module):
    """Read as float32, and orthonormal to float32."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(n, 12, generator=generator).double())[0] for n in (12, 600))
    given = ((left * torch.logspace(0, -5, 12).double()) @ right.T).float()
    found = orthonormalize(given)
    assert orthogonality(found) < 1e-6
    assert float((found.double() - (found.double() @ right) @ right.T).norm()) < 0.1


def test_faces(module):
    """Strides, types and shapes on their way to the kernels."""
    a = torch.randn(2, 9, 30)[:, 2:7]
    torch.testing.assert_close(rows.gram(a, a.mT.contiguous().mT), a.double() @ a.double().mT)
    weights, more = torch.randn(2, 5, 3).double().mT, torch.randn(2, 3, 5).double()
    torch.testing.assert_close(rows.combine_rows(weights, a, more, a), ((weights + more) @ a.double()).float())
    for wide in (torch.randn(2, 4, 7).double(), torch.randn(2, 7, 4).double()):
        u, s, vh, off = jacobi.jacobi_svd(wide)
        torch.testing.assert_close(u @ (s[..., None] * vh), wide)
        assert (off < 1e-14).all()
    large = torch.randn(1, 300, 300).double()
    assert not jacobi.jacobi_fits(large)
    with pytest.raises(RuntimeError, match="a matrix must fit the shared memory"):
        jacobi.jacobi_svd(large)
    assert module.calls == {"gram": 1, "combine_rows": 1, "jacobi": 3}
