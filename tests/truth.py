"""Comparison with what is known to be right: dense Jacobians and torch.func, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from networks import rand
from pretended_gpu import check_on_gpu

from latentjac.linearization.autodiff import AutodiffLinearization, differentiable
from latentjac.linearization.compiled import ProgramLinearization
from latentjac.linearization.rules.fallback import Fallback

Tensor = torch.Tensor
_ON_GPU: set[tuple[Any, ...]] = set()  # kinds of instructions of whole networks that were compared there


def dense_jacobian(f: Callable[..., Tensor], x: Tensor, *constants: Tensor) -> Tensor:
    """Jacobian ``[m, n]`` by reverse mode."""
    with differentiable():
        jacobian = torch.func.jacrev(lambda z: f(z, *constants))(x)
    return jacobian.detach().reshape(-1, x.numel())


def check(f: Callable[..., Tensor], x: Tensor, *constants: Tensor, fallback: bool = False) -> ProgramLinearization:
    """Compare both products, at two points, with the dense Jacobian of every point of the batch."""
    lin = ProgramLinearization(f, x, *constants)
    used = fallbacks(lin)
    assert bool(used) == fallback, used
    for base in (x, x.flip(0) * 0.7 + 0.01):
        lin.rebase(base)
        jacobian = dense_jacobian(f, base, *constants)
        y = f(base, *constants)
        torch.testing.assert_close(lin.y, y, rtol=1e-10, atol=1e-12)
        v, u = rand(5, *x.shape, seed=2), rand(4, *y.shape, seed=3)
        torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian, rtol=1e-10, atol=1e-11)
        assert lin.check_adjoint() < 1e-12
    check_on_gpu(lin, v, u, not fallback)
    return lin


def check_network(
    f: Callable[..., Tensor], x: Tensor, *constants: Tensor, fallback: bool = False, tolerance: float = 1e-10
) -> ProgramLinearization:
    """Compare both products with torch.func, at two points; on a GPU too where it has an instruction of a new kind."""
    lin, truth = ProgramLinearization(f, x, *constants), AutodiffLinearization(f, x, *constants)
    used = fallbacks(lin)
    assert bool(used) == fallback, used
    for base in (x, 0.5 * x + 0.1):
        lin.rebase(base, *constants)
        truth.rebase(base, *constants)
        close(lin.y, truth.y, tolerance)
        v, u = rand(2, *x.shape, seed=2), rand(2, *lin.y.shape, seed=3)
        close(lin.jvp(v), truth.jvp(v), tolerance)
        close(lin.vjp(u), truth.vjp(u), tolerance)
        assert lin.check_adjoint() < max(1e-12, tolerance / 100)
    kinds = {(type(i), *(call.target for call in i.calls)) for i in lin.program.instructions}
    if kinds - _ON_GPU:  # takes as long as all the rest
        check_on_gpu(lin, v, u, not fallback, tolerance)
        _ON_GPU.update(kinds)
    return lin


def fallbacks(lin: ProgramLinearization) -> list[str]:
    """Operators that torch.func computes alone: those without a rule, and those whose rule failed when it was tried."""
    return sorted({i.call.target for i in lin.program.instructions if type(i) is Fallback})


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Relative distance, of something that is not zero."""
    assert expected.norm() > 1e-6
    assert relative(actual, expected) < tolerance


def relative(found: Tensor, expected: Tensor) -> float:
    """Distance of all entries, relative to the size of the expected ones, in float64."""
    exact = expected.double()
    return float((found.double() - exact).norm() / exact.norm().clamp_min(1e-300))
