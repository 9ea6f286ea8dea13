"""Wrong arguments are named, with what was expected and what came."""

import pytest
import torch

from latentjac.kernels import norm_act_cotangent, norm_act_primal, norm_act_tangent

X = torch.zeros(2, 3, 8)
T = torch.zeros(4, 2, 3, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: norm_act_primal(X[0], groups=2), ValueError, r"x must have shape \[N, S, C\], got \[3, 8\]"),
        (lambda: norm_act_primal("x", groups=2), TypeError, "x must be a tensor, got str"),
        (lambda: norm_act_primal(X.int(), groups=2), TypeError, "x must be float32.*got torch.int32"),
        (lambda: norm_act_primal(X, groups=3), ValueError, "groups must divide the number of channels, 8, got 3"),
        (lambda: norm_act_primal(X, groups=0), ValueError, "groups must divide"),
        (lambda: norm_act_primal(X, groups=2, activation="tanh"), ValueError, "activation must be one of.*got 'tanh'"),
        (lambda: norm_act_primal(X, groups=2, eps=-1.0), ValueError, "eps must not be negative, got -1.0"),
        (lambda: norm_act_primal(X, groups=2, eps=float("nan")), ValueError, "eps must not be negative, got nan"),
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
