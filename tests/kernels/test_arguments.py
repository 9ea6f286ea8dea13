"""Wrong arguments are named, with what was expected and what came."""

import math
from dataclasses import replace

import pytest
import torch

from latentjac.kernels import (
    NormActPrimal,
    attention_cotangent,
    attention_primal,
    attention_tangent,
    gated_cotangent,
    gated_tangent,
    norm_act_cotangent,
    norm_act_primal,
    norm_act_tangent,
    rowwise_product,
)

X = torch.zeros(2, 3, 8)
T = torch.zeros(4, 2, 3, 8)
Q = torch.zeros(2, 3, 5, 8)
DQ = torch.zeros(4, 2, 3, 5, 8)
ATTENTION = attention_primal(Q, Q, Q)
M = torch.zeros(2, 5, 3, 8, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: norm_act_primal(X[0], groups=2), ValueError, r"x must have shape \[N, S, C\], got \[3, 8\]"),
        (lambda: norm_act_primal("x", groups=2), TypeError, "x must be a tensor, got str"),
        (lambda: norm_act_primal(X.int(), groups=2), TypeError, "x must be float32.*got torch.int32"),
        (lambda: norm_act_primal(X, groups=3), ValueError, "groups must divide the number of channels, 8, got 3"),
        (lambda: norm_act_primal(X, groups=0), ValueError, "groups must divide"),
        (lambda: norm_act_primal(X, groups=2, activation="tanh"), ValueError, "activation must be one of.*got 'tanh'"),
        (lambda: norm_act_primal(X, groups=2, eps=-1.0), ValueError, r"eps must be a number in \[0, inf\), got -1"),
        (
            lambda: norm_act_primal(X, groups=2, eps=float("nan")),
            ValueError,
            r"eps must be a number in \[0, inf\), got nan",
        ),
        (lambda: norm_act_primal(X, torch.ones(3), groups=2), ValueError, r"gamma must have shape \[8\] or \[2, 8\]"),
        (lambda: norm_act_primal(X, None, torch.ones(8).double(), groups=2), TypeError, "beta must be torch.float32"),
        (
            lambda: norm_act_primal(X, torch.ones(8, device="meta"), groups=2),
            TypeError,
            "gamma must be on cpu, got meta",
        ),
        (lambda: norm_act_tangent(X, X, X, groups=2), ValueError, r"t must have shape \[P, N, S, C\]"),
        (lambda: norm_act_tangent(T, T, X, groups=2), ValueError, r"a must have shape \[2, 3, 8\]"),
        (lambda: norm_act_tangent(T, X, X.double(), groups=2), TypeError, "xhat must be torch.float32"),
        (lambda: norm_act_cotangent(T, X, X[:1], groups=2), ValueError, "norm_act_cotangent: xhat must have shape"),
        (lambda: norm_act_tangent(T, X, X, groups=2, accumulate=True), ValueError, "accumulate must come with out"),
        (lambda: norm_act_tangent(T, X, X, groups=2, out=X), ValueError, "out must have shape"),
        (
            lambda: norm_act_tangent(T, X, X, groups=2, out=torch.zeros(2, 4, 3, 8).transpose(0, 1)),
            ValueError,
            "out must be contiguous",
        ),
        (lambda: attention_primal(Q[0], Q, Q), ValueError, r"q must have shape \[B, H, N, D\], got \[3, 5, 8\]"),
        (lambda: attention_primal(Q, Q[..., :4], Q), ValueError, r"k must have shape \[2, 3, 5, 8\], got"),
        (lambda: attention_primal(Q, Q, Q[0]), ValueError, r"v must have shape \[2, 3, M, E\], got"),
        (lambda: attention_primal(Q, Q.double(), Q), TypeError, "k must be torch.float32, got torch.float64"),
        (lambda: attention_primal(Q.int(), Q, Q), TypeError, "q must be float32.*got torch.int32"),
        (lambda: attention_primal(Q, Q, Q, bias=torch.zeros(4)), ValueError, r"bias must broadcast to \[2, 3, 5, 5\]"),
        (lambda: attention_primal(Q, Q, Q, bias=torch.zeros(5).double()), TypeError, "bias must be torch.float32"),
        (lambda: attention_tangent(ATTENTION), ValueError, "one of dq, dk and dv must be given, got none"),
        (lambda: attention_tangent(ATTENTION, DQ, DQ[:1]), ValueError, r"dk must have shape \[4, 2, 3, 5, 8\], got"),
        (lambda: attention_tangent(ATTENTION, DQ, accumulate=True), ValueError, "accumulate must come with out"),
        (lambda: attention_tangent(ATTENTION, DQ, out=DQ), ValueError, "out must share no memory with dq"),
        (lambda: attention_tangent(ATTENTION, DQ, out=Q), ValueError, r"out must have shape \[4, 2, 3, 5, 8\]"),
        (
            lambda: attention_tangent(ATTENTION, DQ, out=torch.zeros(4, 2, 3, 8, 5).mT),
            ValueError,
            "out must have its channels side by side",
        ),
        (lambda: attention_cotangent(ATTENTION, Q), ValueError, "u must have shape"),
        (lambda: attention_cotangent(ATTENTION, DQ, wanted=(False,) * 3), ValueError, "wanted must name one of dq"),
        (
            lambda: attention_cotangent(ATTENTION, DQ, out=(None, DQ, None)),
            ValueError,
            r"out\[1\] must share no memory with u",
        ),
        (lambda: rowwise_product(M.mT, DQ), ValueError, "matrices must be contiguous"),
        (lambda: rowwise_product(M, DQ[..., :5]), ValueError, r"t must have shape \[4, 2, 3, 5, 8\], got"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_out_over_a_non_contiguous_input_is_refused():
    memory = torch.zeros(4 * 2 * 3 * 8)
    t = memory.reshape(4, 2, 8, 3).transpose(2, 3)
    with pytest.raises(ValueError, match="out must share no memory with t"):
        norm_act_tangent(t, X, X, groups=2, out=memory.reshape(4, 2, 3, 8))


def test_out_partly_over_the_input_is_refused():
    memory = torch.zeros(5 * 2 * 3 * 8)
    t, out = memory[: T.numel()].reshape(T.shape), memory[48:].reshape(T.shape)
    with pytest.raises(ValueError, match="out must share no memory with t"):
        norm_act_tangent(t, X, X, groups=2, out=out)


U, A = torch.zeros(4, 3, 8), torch.zeros(3, 8)
TINY, A3, X3 = torch.zeros(1, 1, 3, 8), torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)
PRIMAL = attention_primal(Q, Q.clone(), Q.clone())
BUFFER, B, B4 = torch.zeros_like(DQ), torch.zeros_like(X), torch.zeros_like(T)
SQUARE, ONE = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)


def halves():
    whole = torch.zeros(4, 3, 16)
    return whole[..., :8], whole[..., 8:]


def shifted_rows():
    """Rows of which one begins before another ends."""
    memory = torch.zeros(4 * 3 * 16 + 4)
    return tuple(memory[at : at + 192].view(4, 3, 16)[..., :8] for at in (0, 4))


def zeros_without_memory():
    tensor = torch.zeros(4, 2, 3, 8)
    tensor.untyped_storage().resize_(0)
    return tensor


def too_short():
    tensor = torch.zeros(4, 2, 3, 8)
    tensor.untyped_storage().resize_(8)
    return tensor


def at_an_odd_address(*shape):
    count = torch.Size(shape).numel()
    return torch.frombuffer(bytearray(4 * count + 1), dtype=torch.float32, offset=1, count=count).view(shape)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gated_cotangent(U, A, A, out=(halves()[0],) * 2), ValueError, r"out\[1\] must share no memory with"),
        (
            lambda: gated_cotangent(U, A, A, out=shifted_rows()),
            ValueError,
            r"out\[1\] must share no memory with out\[0",
        ),
        (lambda: gated_tangent(U, U, U[0], A, out=U), ValueError, "out must share no memory with value"),
        (lambda: gated_tangent(U + 1, U + 2, U[0], A, out=U), ValueError, "out must share no memory with a"),
        (lambda: attention_cotangent(ATTENTION, DQ, out=(BUFFER,) * 3), ValueError, r"out\[1\] must share no memory"),
        (
            lambda: attention_tangent(ATTENTION, DQ, out=torch.zeros(1, 2, 3, 5, 8).expand(4, -1, -1, -1, -1)),
            ValueError,
            "out must have memory of its own for each entry, got strides",
        ),
        (lambda: attention_tangent(PRIMAL, DQ[:1], out=PRIMAL.o[None]), ValueError, "no memory with primal.o"),
        (lambda: rowwise_product(SQUARE, ONE, out=SQUARE.view(1, 1, 1, 1, 1)), ValueError, "no memory with matrices"),
        (lambda: norm_act_tangent(TINY, A3, X3, groups=2, out=A3[None]), ValueError, "out must share no memory with a"),
        (
            lambda: norm_act_primal(X, groups=2, out=NormActPrimal(X, torch.zeros_like(X), torch.zeros_like(X))),
            ValueError,
            "out.y must share no memory with x",
        ),
        (
            lambda: norm_act_primal(X, groups=2, out=NormActPrimal(torch.zeros_like(X), B, B)),
            ValueError,
            "out.a must share no memory with out.xhat",
        ),
        (lambda: norm_act_tangent(zeros_without_memory(), X, X, groups=2), ValueError, "t must have memory for all"),
        (lambda: norm_act_tangent(too_short(), X, X, groups=2), ValueError, "got a storage of 8 bytes"),
        (lambda: norm_act_tangent(torch._efficientzerotensor(T.shape), X, X, groups=2), ValueError, "t must have mem"),
        (lambda: norm_act_tangent(T, X, X, groups=2, out=torch._neg_view(B4)), ValueError, "out must hold its own val"),
        (
            lambda: norm_act_tangent(T, X, X, groups=2, out=at_an_odd_address(4, 2, 3, 8)),
            ValueError,
            "out must lie at a multiple of 4 bytes",
        ),
        (
            lambda: norm_act_primal(X.to_sparse(), groups=2),
            TypeError,
            "x must be a dense tensor, got layout torch.spar",
        ),
        (lambda: norm_act_primal(X, A.to_sparse()[0], groups=2), TypeError, "gamma must be a dense tensor"),
        (lambda: norm_act_primal(X, groups=2.0), TypeError, "groups must be an int, got float"),
        (lambda: norm_act_primal(X, groups=2, eps="1"), TypeError, "eps must be a number, got str"),
        (lambda: attention_primal(Q, Q, Q, scale=math.nan), ValueError, "scale must be a number in"),
        (
            lambda: attention_tangent(ATTENTION, torch.zeros(())),
            ValueError,
            r"dq must have shape \[P, B, H, N, D\], got",
        ),
        (lambda: attention_tangent(None, DQ), TypeError, "primal must be an AttentionPrimal, got NoneType"),
        (lambda: attention_cotangent(ATTENTION, torch.zeros(())), ValueError, r"u must have shape \[P, B, H, N, E\]"),
        (lambda: attention_cotangent(ATTENTION, DQ, wanted=(True,)), ValueError, "wanted must have three entries"),
        (lambda: attention_cotangent(ATTENTION, DQ, out=(None,)), ValueError, "out must have three entries"),
        (lambda: rowwise_product(M, torch.zeros(())), ValueError, r"t must have shape \[P, B, H, N, D\], got"),
    ],
)
def test_memory_and_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_values_that_memory_does_not_hold_are_read_right():
    """A negated view, and entries at odd addresses."""
    t = torch.randn(4, 2, 3, 8)
    odd = at_an_odd_address(4, 2, 3, 8).copy_(t)
    expected = norm_act_tangent(t, X + 1, X, groups=2)
    assert torch.equal(norm_act_tangent(torch._neg_view(-t), X + 1, X, groups=2), expected)
    assert torch.equal(norm_act_tangent(odd, X + 1, X, groups=2), expected)
    q = torch.randn(2, 3, 5, 8)
    assert torch.equal(attention_primal(torch._neg_view(-q), q, q).o, attention_primal(q, q, q).o)


def test_a_primal_whose_arrays_moved_is_refused(native_module):
    primal = attention_primal(Q.clone(), Q.clone(), Q.clone())
    with pytest.raises(ValueError, match="primal must be as attention_primal returned it"):
        attention_tangent(replace(primal, k=Q.clone()), DQ)
    primal.q.data = Q.clone()
    with pytest.raises(ValueError, match="attention_tangent: primal must be as attention_primal returned it"):
        attention_tangent(primal, DQ)
    with pytest.raises(ValueError, match="attention_cotangent: primal must be"):
        attention_cotangent(primal, DQ)


def test_results_may_lie_between_each_other():
    value, gate = gated_cotangent(U + 1, A + 2, A + 3, out=halves())
    assert (value == 2).all()
    assert (gate == 3).all()
