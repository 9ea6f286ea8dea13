"""The torch.func backend against dense float64 Jacobians."""

from __future__ import annotations

import pytest
import torch
from networks import build_tiny_unet
from truth import dense_jacobian

from latentjac import NonFiniteError, linearize

T = torch.tensor([500])


@pytest.fixture(scope="module")
def unet():
    return build_tiny_unet(size=8).double().requires_grad_(False)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_products_match_the_dense_jacobian(unet, memory_format) -> None:
    def f(x, t):
        return unet(x, t).sample

    x = torch.randn(1, 3, 8, 8, dtype=torch.float64).to(memory_format=memory_format)
    unet.to(memory_format=memory_format)
    lin = linearize(f, x, T)
    jacobian = dense_jacobian(lambda z: f(z, T), x)
    v, u = torch.randn(5, *x.shape, dtype=x.dtype), torch.randn(4, *lin.y.shape, dtype=x.dtype)
    torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian, rtol=1e-10, atol=1e-12)
    assert lin.check_adjoint() < 1e-13
    torch.testing.assert_close(lin.y, f(x, T))


def test_a_wrong_transpose_is_noticed() -> None:
    lin = linearize(lambda x: x**3, torch.randn(1, 6, dtype=torch.float64))
    right = lin._vjp
    lin._vjp = lambda u: 1.01 * right(u)
    assert lin.check_adjoint() > 1e-4


def test_points_of_a_batch_are_independent(unet) -> None:
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    together = linearize(lambda z: unet(z, T).sample, x)
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    for i in range(3):
        alone = linearize(lambda z: unet(z, T).sample, x[i : i + 1])
        torch.testing.assert_close(together.jvp(v)[:, i : i + 1], alone.jvp(v[:, i : i + 1]))


def test_rebase_moves_the_point_and_the_constants(unet) -> None:
    def f(x, t):
        return unet(x, t).sample

    x, z = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    lin = linearize(f, x, T)
    lin.rebase(z, torch.tensor([20]))
    torch.testing.assert_close(lin.jvp(v), linearize(f, z, torch.tensor([20])).jvp(v))
    lin.rebase(x)
    torch.testing.assert_close(lin.jvp(v), linearize(f, x, torch.tensor([20])).jvp(v))


@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_chunks_change_nothing(unet, chunk_size: int) -> None:
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    v = torch.randn(5, *x.shape, dtype=x.dtype)
    whole = linearize(lambda z: unet(z, T).sample, x)
    parts = linearize(lambda z: unet(z, T).sample, x, chunk_size=chunk_size)
    torch.testing.assert_close(parts.jvp(v), whole.jvp(v))
    torch.testing.assert_close(parts.vjp(v), whole.vjp(v))


def test_scipy_sees_the_same_operator() -> None:
    svds = pytest.importorskip("scipy.sparse.linalg").svds
    matrix = torch.randn(7, 5, dtype=torch.float64)
    lin = linearize(lambda x: (x @ matrix.T).sin(), torch.randn(1, 5, dtype=torch.float64))
    jacobian = dense_jacobian(lambda x: (x @ matrix.T).sin(), lin.x)
    values = svds(lin.to_scipy(), k=3, return_singular_vectors=False)
    assert sorted(values) == pytest.approx(sorted(torch.linalg.svdvals(jacobian)[:3].tolist()))
    block = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.from_numpy(lin.to_scipy() @ block.numpy()), jacobian @ block)


def test_the_first_non_finite_operation_is_named(unet) -> None:
    broken = build_tiny_unet(size=8).double()
    with torch.no_grad():
        broken.mid_block.attentions[0].to_v.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"first made by torch\.nn\.functional\.linear.*Linear\(in_features=16"):
        linearize(lambda z: broken(z, T).sample, torch.randn(1, 3, 8, 8, dtype=torch.float64))


def test_parameters_that_require_grad_record_no_graph() -> None:
    layer = torch.nn.Linear(4, 4).double()
    lin = linearize(layer, torch.randn(1, 4, dtype=torch.float64))
    assert not lin.y.requires_grad
    assert not lin.jvp(torch.randn(2, 1, 4, dtype=torch.float64)).requires_grad


def test_attention_lies_in_memory_as_functions_expect_it() -> None:
    """As those of diffusers, which view tokens of all heads side by side where a copy would be needed otherwise."""
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def f(q: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).transpose(1, 2).view(1, 3, 8)

    lin = linearize(f, x, backend="autodiff")
    torch.testing.assert_close(lin.jvp(torch.eye(24).double().view(24, *x.shape)).flatten(1), dense_jacobian(f, x).T)
