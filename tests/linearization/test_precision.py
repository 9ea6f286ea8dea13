"""Passes in every precision against the dense float64 Jacobian: how far off, transposed, and what is left as it was."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from linearization.cases import block, conditional_unet, elementwise, unet, weights_as_constants
from networks import rand
from recorder import Recorder
from truth import dense_jacobian, relative

from latentjac import linearize
from latentjac.linearization import PRECISIONS, ProgramLinearization, TraceError
from latentjac.linearization.precision import allows_tf32, arithmetic, spacing
from latentjac.solvers import Krylov, svd

Tensor = torch.Tensor
CASES = [block, unet, conditional_unet, weights_as_constants, elementwise]
# Relative errors of products with random probes.
BOUNDS = {"fp32": 2e-5, "tf32": 2e-5, "bf16": 3e-2}


@cache
def truth(case: Callable) -> tuple[Tensor, Tensor, Tensor]:
    """Value and products at one point in float64."""
    f, x, (constants, _) = case()
    lin = linearize(f, x, *constants, backend="autodiff")
    return lin.y, lin.jvp(rand(3, *lin.x.shape)), lin.vjp(rand(3, *lin.y.shape))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_products_against_float64(case: Callable, precision: str) -> None:
    f, x, (constants, others) = case(torch.float32)
    lin = linearize(f, x, *others, backend="program", precision=precision)
    lin.rebase(x, *constants)
    y, jv, jtu = truth(case)
    products = lin.jvp(rand(3, *lin.x.shape).float()), lin.vjp(rand(3, *lin.y.shape).float())
    assert {lin.x.dtype, lin.y.dtype, *(p.dtype for p in products)} == {torch.float32}
    assert relative(lin.y, y) < 2e-5, "the point itself is evaluated in float32"
    for found, exact in zip(products, (jv, jtu), strict=True):
        assert relative(found, exact) < BOUNDS[precision]
        assert precision != "bf16" or relative(found, exact) > 1e-4, "passes hold short numbers"
    assert lin.check_adjoint() < BOUNDS[precision]


def test_short_passes_are_recorded_like_all_others() -> None:
    f, x, (constants, others) = block(torch.float32)
    plain = ProgramLinearization(f, x, *constants, precision="bf16")
    lin = ProgramLinearization(f, x, *constants, precision="bf16", recorder=Recorder(), cuda_graphs=True)
    for given in (constants, others):
        plain.rebase(x, *given)
        lin.rebase(x, *given)
        for seed in (1, 2):
            v, u = rand(2, *x.shape, seed=seed).float(), rand(2, *plain.y.shape, seed=seed).float()
            torch.testing.assert_close(lin.jvp(v), plain.jvp(v), rtol=0, atol=0)
            torch.testing.assert_close(lin.vjp(u), plain.vjp(u), rtol=0, atol=0)


@pytest.mark.parametrize("precision", [*PRECISIONS, "mixed"])
def test_residuals_and_what_they_claim(precision: str) -> None:
    """Triplets of each precision in float64 arithmetic: residuals are true up to the rounding of the products."""
    f, x, (constants, _) = block(torch.float32)
    exact, *_ = block()
    x = x[:1]
    jacobian = dense_jacobian(exact, x.double(), constants[0].double())
    given: dict[str, Any] = {"tol": 2e-2}
    if precision == "mixed":
        given = {"tol": 1e-3, "refine_with": linearize(f, x, *constants, precision="fp32")}
    lin = linearize(f, x, *constants, precision="bf16" if precision == "mixed" else precision)
    basis = svd(lin, k=4, solver=Krylov(block_size=2), **given)
    u, v, s = (t.double() for t in (basis.u.flatten(1), basis.v.flatten(1), basis.s))
    true = (u @ jacobian - s[:, None] * v).norm(dim=1) / s
    rounding = 4 * lin.eps if precision == "bf16" else 2e-5
    torch.testing.assert_close(basis.residuals.double(), true, rtol=1e-2, atol=rounding)
    assert basis.residuals.max() <= given["tol"]
    torch.testing.assert_close(s, torch.linalg.svdvals(jacobian)[:4], rtol=given["tol"], atol=0)
    mismatch = basis.certificate.adjoint_mismatch.max()
    assert (1e-6 < mismatch < 1e-2) if precision == "bf16" else mismatch < 1e-6
    if precision == "mixed":
        assert 1e-6 < basis.metadata["cheap_adjoint_mismatch"] < 1e-2
        alone = svd(given["refine_with"], k=4, tol=1e-3, solver=Krylov(block_size=2))
        assert basis.metadata["refine_jvps"] < alone.jvps


def test_settings_of_torch_are_put_back() -> None:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [b.fp32_precision for b in backends]
    gpu = torch.device("cuda")
    for precision, inside in (("fp32", ["ieee"] * 2), ("tf32", ["tf32"] * 2), ("bf16", ["ieee"] * 2), (None, before)):
        with arithmetic(precision, gpu):
            assert [b.fp32_precision for b in backends] == inside
        assert [b.fp32_precision for b in backends] == before
    with pytest.raises(ValueError, match="bad"), arithmetic("tf32", gpu):
        raise ValueError("bad")
    assert [b.fp32_precision for b in backends] == before
    with arithmetic("fp32", torch.device("cpu")):
        assert [b.fp32_precision for b in backends] == before, "a processor has none of these"


def _settings_in_child(results: Any) -> None:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    found = [b.fp32_precision for b in backends]
    with arithmetic("fp32", torch.device("cuda")):
        results.put((found, [b.fp32_precision for b in backends]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("by", ["another thread", "the thread that forks"])
def test_a_child_forked_while_settings_are_changed_can_change_them(by: str) -> None:
    before = [b.fp32_precision for b in (torch.backends.cuda.matmul, torch.backends.cudnn.conv)]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with arithmetic("tf32", torch.device("cuda")):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start() if by == "another thread" else held.set()
    assert held.wait(10)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_settings_in_child, args=(results,))
    own = arithmetic("tf32", torch.device("cuda")) if by != "another thread" else nullcontext()
    with own:
        child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
    done.set()
    if by == "another thread":
        holder.join()
    assert not alive
    # The copy of the thread that forked is still inside of its own setting.
    found = before if by == "another thread" else ["tf32"] * 2
    assert results.get(timeout=10) == (found, ["ieee"] * 2)


def test_our_kernels_follow_torchs_matmuls(matmuls: Any) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for outside, own in (("ieee", False), ("tf32", True), ("none", False)):
        matmuls.fp32_precision = outside
        for precision, inside in (("fp32", False), ("tf32", True), ("bf16", False), (None, own)):
            with arithmetic(precision, gpu):
                assert allows_tf32(gpu) == inside, (outside, precision)
                assert not allows_tf32(cpu)


def test_rounding_of_the_products_is_known() -> None:
    f, x, (constants, _) = block(torch.float32)
    eps = {p: linearize(f, x, *constants, precision=p).eps for p in (None, *PRECISIONS)}
    assert eps == {None: 2.0**-23, "fp32": 2.0**-23, "tf32": 2.0**-23, "bf16": 2.0**-7}


def test_rounding_of_the_products_on_a_gpu_is_known(matmuls: Any) -> None:
    gpu, coarse, fine = torch.device("cuda"), 2.0**-10, 2.0**-23
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        for images, matrices, own in (("ieee", "ieee", fine), ("tf32", "ieee", coarse), ("ieee", "tf32", coarse)):
            conv.fp32_precision, matmuls.fp32_precision = images, matrices
            eps = {p: spacing(p, torch.float32, gpu) for p in (None, *PRECISIONS)}
            assert eps == {None: own, "fp32": fine, "tf32": coarse, "bf16": 2.0**-7}
            assert spacing(None, torch.float64, gpu) == 2.0**-52
            assert spacing(None, torch.bfloat16, gpu) == 2.0**-7
    finally:
        conv.fp32_precision = before


def test_complex_numbers_have_no_short_passes() -> None:
    def rotated(x: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(x.reshape(2, -1, 2)) * 1j)

    with pytest.raises(TraceError, match="complex numbers have no short type"):
        linearize(rotated, rand(2, 4).float(), precision="bf16")


@pytest.mark.parametrize("backend", ["program", "autodiff"])
def test_fewer_points_keep_the_precision(backend: str) -> None:
    f, x, (constants, _) = block(torch.float32)
    lin = linearize(f, x, *constants, backend=backend, precision="tf32")
    assert lin.restrict([1]).precision == "tf32"
