"""Wrong arguments are named, with what was expected and what came."""

import pytest
import torch

from latentjac.kernels import (
    attention_cotangent,
    attention_primal,
    attention_tangent,
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
        (lambda: norm_act_primal(X, groups=2, eps=-1.0), ValueError, r"eps must be a number in \[0, inf\), got -1.0"),
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
    with pytest.raises(ValueError, match="out must not share memory with a non-contiguous t"):
        norm_act_tangent(t, X, X, groups=2, out=memory.reshape(4, 2, 3, 8))


def test_out_partly_over_the_input_is_refused():
    memory = torch.zeros(5 * 2 * 3 * 8)
    t, out = memory[: T.numel()].reshape(T.shape), memory[48:].reshape(T.shape)
    with pytest.raises(ValueError, match="out must be t itself or share no memory with it"):
        norm_act_tangent(t, X, X, groups=2, out=out)
