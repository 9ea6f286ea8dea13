"""csrc/cuda/jacobi.cu, run on the CPU, against LAPACK."""

import pytest
import torch
from cuda_on_cpu import Jacobi, address


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


class Result:
    """What the kernel makes of matrices [B, r, c], r <= c; `shared` is false where the rotations go to memory."""

    def __init__(self, emulator, memory, matrices, right=True):
        points, rows, columns = matrices.shape
        given = memory.copy(matrices)
        self.left = memory.empty(points, rows, rows, dtype=torch.float64)
        self.s = memory.empty(points, rows, dtype=torch.float64)
        self.right = memory.empty(points, rows, columns, dtype=torch.float64) if right else None
        self.off = memory.empty(points, dtype=torch.float64)
        bytes_ = emulator.library.jacobi_workspace(points, rows, columns)
        self.shared = bytes_ == 0
        workspace = None if self.shared else memory.empty(bytes_ // 8, dtype=torch.float64)
        call = Jacobi(*map(address, (given, self.left, self.s, self.right, self.off)), points, rows, columns)
        written = [self.left, self.s, self.off] + ([self.right] if right else [])
        emulator.call_twice(memory, "jacobi", written, call, address(workspace))


# One row, a pair, odd numbers, more columns than rows, more than one pair for a warp.
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (1, 3, 70), (3, 17, 17), (1, 70, 73)], ids=str)
def test_singular_values_and_vectors(emulator, memory, shape):
    matrices = draw(*shape)
    found, s = Result(emulator, memory, matrices), torch.linalg.svdvals(matrices)
    assert found.shared
    torch.testing.assert_close(found.s, s, rtol=1e-13, atol=0)
    eye = torch.eye(shape[1], dtype=torch.float64).expand(shape[0], -1, -1)
    for vectors in (found.left, found.right):
        torch.testing.assert_close(vectors @ vectors.mT, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(found.left.mT @ (found.s[..., None] * found.right), matrices, rtol=0, atol=1e-13)
    assert (found.off <= 2.3e-16 * shape[1]).all()


def test_rotations_in_memory_where_they_do_not_fit(emulator, memory):
    """On sm_80 there is room for 143 by 143, without the rotations."""
    matrices = torch.diag(torch.arange(143.0, 0, -1, dtype=torch.float64))[None].clone()
    matrices[0, :, -1] += 1e-3 * draw(143)
    found = Result(emulator, memory, matrices)
    assert not found.shared
    torch.testing.assert_close(found.s, torch.linalg.svdvals(matrices), rtol=1e-13, atol=0)
    torch.testing.assert_close(found.left @ matrices, found.s[..., None] * found.right, rtol=0, atol=1e-11)


def test_a_matrix_that_does_not_fit_is_refused(emulator, memory):
    with pytest.raises(RuntimeError, match=r"jacobi \(points=1, rows=200, columns=200\): .* 166912 bytes here, got 32"):
        Result(emulator, memory, draw(1, 200, 200))


def test_small_values_are_as_precise_as_large_ones(emulator, memory):
    """Rows of very different size: errors are small beside each row, not only beside the largest."""
    scales = torch.logspace(0, -14, 12, dtype=torch.float64)
    matrices = (scales[:, None] * draw(12, 12))[None]
    found = Result(emulator, memory, matrices)
    back = found.left.mT @ (found.s[..., None] * found.right)
    torch.testing.assert_close(back / scales[:, None], matrices / scales[:, None], rtol=0, atol=1e-13)


def test_eigenvectors_of_gram_matrices(emulator, memory):
    """Semidefinite: rows of `left` are eigenvectors; equal, tiny and zero eigenvalues; nothing else wanted."""
    basis = torch.linalg.qr(draw(10, 10))[0]
    values = torch.tensor([3.0, 1, 1, 1, 0.5, 1e-9, 1e-14, 0, 0, 0], dtype=torch.float64)
    matrices = ((basis * values) @ basis.T)[None]
    found = Result(emulator, memory, matrices, right=False)
    torch.testing.assert_close(found.s[0], values, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.left[0] @ found.left[0].T, torch.eye(10).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(found.left @ matrices, found.s[..., None] * found.left, rtol=0, atol=1e-14)


def test_zero_rows_and_zero_matrices(emulator, memory):
    matrices = torch.zeros(2, 5, 6, dtype=torch.float64)
    matrices[1, 1:3] = draw(2, 6)
    found = Result(emulator, memory, matrices)
    assert found.s[0].tolist() == [0] * 5
    assert (found.s[1] > 0).tolist() == [True, True, False, False, False]
    assert not found.right[1, 2:].any()
    torch.testing.assert_close(found.left @ found.left.mT, torch.eye(5).double().expand(2, -1, -1), rtol=0, atol=1e-14)


def test_a_nan_stays_in_its_matrix(emulator, memory):
    matrices = draw(2, 4, 4)
    matrices[0, 2, 1] = torch.nan
    found = Result(emulator, memory, matrices)
    assert found.s[0].isnan().all()
    assert found.right[0].isnan().all()
    torch.testing.assert_close(found.s[1], torch.linalg.svdvals(matrices[1]), rtol=1e-13, atol=0)
