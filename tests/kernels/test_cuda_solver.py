"""The whole solver on the CUDA kernels of its own work, run on the CPU."""

import pytest
import torch
from cuda_on_cpu import DTYPES, CombineRows, Gram, Jacobi, Rows, WeightedRows, address

from latentjac.kernels import reference
from latentjac.svd import Status, iterate, krylov, orthonormal, svd


class MatrixOperator:
    """A matrix, as the solver sees it."""

    def __init__(self, matrix):
        self.matrix, self.x, self.y = matrix, matrix.new_zeros(1, matrix.shape[1]), matrix.new_zeros(1, len(matrix))

    def jvp(self, v):
        return v @ self.matrix.T

    def vjp(self, u):
        return u @ self.matrix


class Kernels:
    """The Python faces of the kernels, with the emulator in place of a GPU."""

    def __init__(self, emulator, memory):
        self.emulator, self.memory, self.calls = emulator, memory, 0

    def _call(self, name, *arguments):
        self.calls += 1
        self.emulator.call(name, *arguments)
        self.memory.check(name)

    def _rows(self, rows):
        return Rows(rows.data_ptr(), rows.stride(0), rows.stride(1))

    def gram(self, a, b=None):
        if 0 in a.shape or (b is not None and 0 in b.shape):
            return reference.gram(a, b)
        a = self.memory.copy(a)
        b = a if b is None else self.memory.copy(b)
        sizes = (*a.shape[:2], b.shape[1], a.shape[2])
        out = self.memory.empty(*sizes[:3], dtype=torch.float64)
        workspace = self.memory.empty(self.emulator.library.gram_workspace(*sizes) // 8, dtype=torch.float64)
        call = Gram(self._rows(a), self._rows(b), address(out), *sizes, DTYPES[a.dtype])
        self._call("gram", call, address(workspace))
        return out

    def combine_rows(self, weights, rows, more=None, others=None, *, wide=False):
        if 0 in rows.shape:
            return reference.combine_rows(weights, rows, more, others, wide)
        weights, rows, more, others = (self.memory.copy(t) for t in (weights, rows, more, others))
        parts = [
            WeightedRows() if w is None else WeightedRows(w.data_ptr(), *w.stride(), self._rows(r), r.shape[1])
            for w, r in ((weights, rows), (more, others))
        ]
        shape = (len(rows), weights.shape[1], rows.shape[2])
        out = self.memory.empty(*shape, dtype=torch.float64 if wide else rows.dtype)
        self._call("combine_rows", CombineRows(*parts, address(out), *shape, DTYPES[rows.dtype], wide))
        return out

    def _jacobi(self, matrices, with_right):
        points, rows, columns = matrices.shape
        given = self.memory.copy(matrices)
        left, s, off = (
            self.memory.empty(*shape, dtype=torch.float64)
            for shape in ((points, rows, rows), (points, rows), (points,))
        )
        right = self.memory.empty(*given.shape, dtype=torch.float64) if with_right else None
        call = Jacobi(*map(address, (given, left, s, right, off)), points, rows, columns)
        self._call("jacobi", call, None)
        return left, s, right

    def eigenvectors(self, gram):
        return self._jacobi(gram, False)[0].mT

    def singular_triplets(self, core):
        if core.shape[1] > core.shape[2]:
            left, s, right = self._jacobi(core.mT, True)
            return right.mT, s, left
        left, s, right = self._jacobi(core, True)
        return left.mT, s, right


@pytest.fixture
def kernels(emulator, memory, monkeypatch):
    found = Kernels(emulator, memory)
    for module in (iterate, krylov, orthonormal):
        for name in ("gram", "combine_rows", "eigenvectors", "singular_triplets"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(found, name))
    return found


# A full spectrum that needs a restart; one of rank 3, where the solver has to see that nothing is left.
@pytest.mark.parametrize(("values", "k"), [(1.3 ** -torch.arange(60.0), 4), (torch.tensor([3.0, 2, 1]), 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_basis(kernels, values, k, dtype):
    generator = torch.Generator().manual_seed(3)
    left, right = (
        torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64))[0] for n in (90, 70)
    )
    matrix = (left * values.double()) @ right.T
    basis = svd(MatrixOperator(matrix.to(dtype)), k=k, tol=1e-4, block_size=3)
    assert kernels.calls > 20
    assert basis.status is Status.CONVERGED
    exact = torch.zeros(k, dtype=torch.float64)
    exact[: len(values)] = values.double()[:k]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(basis.s.double(), exact, rtol=1e-6, atol=10 * eps)
    torch.testing.assert_close(basis.v @ basis.v.T, torch.eye(k, dtype=dtype), rtol=0, atol=20 * eps)
    residuals = (basis.u @ matrix.to(dtype) - basis.s[:, None] * basis.v).norm(dim=1)[: len(values)]
    assert (residuals <= 1.01e-4 * basis.s[: len(values)]).all()
