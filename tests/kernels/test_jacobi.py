"""Small dense problems: on the CPU LAPACK, on CUDA the kernel, against the same truths."""

import pytest
import torch

from latentjac.kernels import jacobi_eigh, jacobi_fits, jacobi_svd


def identity(vectors):
    return torch.eye(vectors.shape[-1], dtype=vectors.dtype, device=vectors.device).expand_as(vectors)


# More rows than columns, fewer, single ones.
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 17), (2, 40, 7), (1, 5, 90)], ids=str)
def test_singular_triplets(draw, shape):
    matrices = draw(*shape)
    u, s, vh, off = jacobi_svd(matrices)
    rank = min(shape[1:])
    assert (u.shape, s.shape, vh.shape) == ((*shape[:2], rank), (shape[0], rank), (shape[0], rank, shape[2]))
    torch.testing.assert_close(s, torch.linalg.svdvals(matrices), rtol=1e-12, atol=0)
    torch.testing.assert_close(u @ (s[..., None] * vh), matrices, rtol=0, atol=1e-12)
    for vectors in (u.mT @ u, vh @ vh.mT):
        torch.testing.assert_close(vectors, identity(vectors), rtol=0, atol=1e-12)
    assert (off <= 1e-15 * rank).all()


@pytest.mark.parametrize("size", [1, 2, 16, 33])
def test_eigenpairs(draw, size):
    rows = draw(2, size, 90)
    matrices = rows @ rows.mT
    values, vectors, off = jacobi_eigh(matrices)
    assert (values.diff(dim=1) <= 0).all()
    torch.testing.assert_close(vectors.mT @ vectors, identity(matrices), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrices @ vectors, values[:, None] * vectors, rtol=1e-11, atol=1e-10)
    assert (off <= 1e-15 * size).all()


def test_rank_deficient(draw):
    matrices = draw(1, 6, 3) @ draw(1, 3, 8)
    u, s, vh, _ = jacobi_svd(matrices)
    assert (s[0, 3:] < 1e-13).all()
    torch.testing.assert_close(u[:, :, :3] @ (s[:, :3, None] * vh[:, :3]), matrices, rtol=0, atol=1e-13)
    values, vectors, _ = jacobi_eigh(torch.zeros_like(matrices[:, :, :6]))
    assert not values.any()
    torch.testing.assert_close(vectors.mT @ vectors, identity(vectors), rtol=0, atol=1e-15)


def test_non_contiguous(draw):
    matrices = draw(2, 9, 5).mT
    u, s, vh, _ = jacobi_svd(matrices)
    torch.testing.assert_close(u @ (s[..., None] * vh), matrices, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 0)])
def test_empty(device, shape):
    matrices = torch.empty(shape, device=device, dtype=torch.float64)
    assert jacobi_svd(matrices).s.shape == shape[:2]
    assert jacobi_eigh(matrices).vectors.shape == shape
    assert not jacobi_fits(matrices)


def test_fits_on_the_cpu_never():
    assert not jacobi_fits(torch.zeros(1, 4, 4, dtype=torch.float64))


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize("size", [66, 128, 143])
def test_the_largest_on_cuda(draw, size):
    matrices = draw(1, size, size)
    torch.testing.assert_close(jacobi_svd(matrices).s, torch.linalg.svdvals(matrices), rtol=1e-12, atol=1e-13)


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_what_fits_on_cuda(draw):
    assert jacobi_fits(draw(1, 140, 140))
    assert not jacobi_fits(draw(1, 140, 140).float())
    assert not jacobi_fits(draw(1, 300, 300))
    with pytest.raises(RuntimeError, match="a matrix must fit the shared memory of a block"):
        jacobi_svd(draw(1, 300, 300))


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_a_cuda_graph_can_hold_it(draw):
    matrices = draw(1, 20, 20)
    jacobi_svd(matrices)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = jacobi_svd(matrices)
    matrices.copy_(draw(1, 20, 20))
    graph.replay()
    torch.testing.assert_close(found.s, torch.linalg.svdvals(matrices), rtol=1e-12, atol=1e-13)


M = torch.zeros(1, 3, 4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jacobi_svd(M[0]), ValueError, r"jacobi_svd: matrices must have shape \[B, p, q\], got \[3, 4\]"),
        (lambda: jacobi_svd(M.float()), TypeError, "matrices must be torch.float64, got torch.float32"),
        (lambda: jacobi_eigh(M), ValueError, r"jacobi_eigh: matrices must have shape \[1, 3, 3\], got \[1, 3, 4\]"),
        (lambda: jacobi_eigh("m"), TypeError, "matrices must be a tensor, got str"),
        (lambda: jacobi_svd(M.clone().requires_grad_()), RuntimeError, "matrices must be a plain tensor"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
