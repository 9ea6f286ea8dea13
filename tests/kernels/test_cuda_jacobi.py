"""csrc/cuda/jacobi.cu, run on the CPU, against LAPACK."""

import pytest
import torch

from latentjac.kernels import jacobi_eigh, jacobi_fits, jacobi_svd


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


class Result:
    """What the kernel makes of matrices [B, r, c], r <= c."""

    def __init__(self, matrices, right=True):
        found = jacobi_svd(matrices) if right else jacobi_eigh(matrices)
        self.left, self.s = (found.u.mT, found.s) if right else (found.vectors.mT, found.values)
        self.right, self.off = found.vh if right else None, found.off


def in_memory(emulated):
    """Whether the rotations of the last call went to memory."""
    return emulated.module.jacobi_workspace(0, emulated.calls[-1][1]) > 0


# A pair, more columns than rows, more than one pair for a warp.
@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 3, 70), (1, 70, 73)], ids=str)
def test_singular_values_and_vectors(emulated, shape):
    matrices = draw(*shape)
    found, s = Result(matrices), torch.linalg.svdvals(matrices)
    assert not in_memory(emulated)
    torch.testing.assert_close(found.s, s, rtol=1e-13, atol=0)
    eye = torch.eye(shape[1], dtype=torch.float64).expand(shape[0], -1, -1)
    for vectors in (found.left, found.right):
        torch.testing.assert_close(vectors @ vectors.mT, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(found.left.mT @ (found.s[..., None] * found.right), matrices, rtol=0, atol=1e-13)
    assert (found.off <= 2.3e-16 * shape[1]).all()


def test_rotations_in_memory_where_they_do_not_fit(emulated):
    """On sm_80 there is room for 143 by 143, without the rotations."""
    matrices = torch.diag(torch.arange(143.0, 0, -1, dtype=torch.float64))[None].clone()
    matrices[0, :, -1] += 1e-3 * draw(143)
    found = Result(matrices)
    assert in_memory(emulated)
    torch.testing.assert_close(found.s, torch.linalg.svdvals(matrices), rtol=1e-13, atol=0)
    torch.testing.assert_close(found.left @ matrices, found.s[..., None] * found.right, rtol=0, atol=1e-11)


def test_a_matrix_that_does_not_fit_is_refused(emulated):
    assert jacobi_fits(draw(1, 143, 143))
    assert not jacobi_fits(draw(1, 200, 200))
    with pytest.raises(RuntimeError, match=r"jacobi \(points=1, rows=200, columns=200\): .* 166912 bytes here, got 32"):
        Result(draw(1, 200, 200))


def test_small_values_are_as_precise_as_large_ones(emulated):
    """Rows of very different size: errors are small beside each row, not only beside the largest."""
    scales = torch.logspace(0, -14, 12, dtype=torch.float64)
    matrices = (scales[:, None] * draw(12, 12))[None]
    found = Result(matrices)
    back = found.left.mT @ (found.s[..., None] * found.right)
    torch.testing.assert_close(back / scales[:, None], matrices / scales[:, None], rtol=0, atol=1e-13)


def test_eigenvectors_of_gram_matrices(emulated):
    """Semidefinite: rows of `left` are eigenvectors; equal, tiny and zero eigenvalues; nothing else wanted."""
    basis = torch.linalg.qr(draw(10, 10))[0]
    values = torch.tensor([3.0, 1, 1, 1, 0.5, 1e-9, 1e-14, 0, 0, 0], dtype=torch.float64)
    matrices = ((basis * values) @ basis.T)[None]
    found = Result(matrices, right=False)
    torch.testing.assert_close(found.s[0], values, rtol=0, atol=1e-14)
    torch.testing.assert_close(found.left[0] @ found.left[0].T, torch.eye(10).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(found.left @ matrices, found.s[..., None] * found.left, rtol=0, atol=1e-14)


def test_zero_rows_and_zero_matrices(emulated):
    matrices = torch.zeros(2, 5, 6, dtype=torch.float64)
    matrices[1, 1:3] = draw(2, 6)
    found = Result(matrices)
    assert found.s[0].tolist() == [0] * 5
    assert (found.s[1] > 0).tolist() == [True, True, False, False, False]
    assert not found.right[1, 2:].any()
    torch.testing.assert_close(found.left @ found.left.mT, torch.eye(5).double().expand(2, -1, -1), rtol=0, atol=1e-14)


def test_a_nan_stays_in_its_matrix(emulated):
    matrices = draw(2, 4, 4)
    matrices[0, 2, 1] = torch.nan
    found = Result(matrices)
    assert found.s[0].isnan().all()
    assert found.right[0].isnan().all()
    torch.testing.assert_close(found.s[1], torch.linalg.svdvals(matrices[1]), rtol=1e-13, atol=0)
