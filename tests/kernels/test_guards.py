"""A kernel inside a differentiated function must raise, never give zero derivatives."""

import pytest
import torch
from torch.autograd import forward_ad

from latentjac import kernels
from latentjac.kernels import (
    attention_cotangent,
    attention_primal,
    attention_tangent,
    norm_act_cotangent,
    norm_act_primal,
    norm_act_tangent,
    rowwise_product,
)
from latentjac.kernels.guards import program_pass

X = torch.randn(2, 3, 8, dtype=torch.float64)
T = torch.randn(4, 2, 3, 8, dtype=torch.float64)


def primal(x):
    return norm_act_primal(x, groups=2, activation="silu").y


def tangent(t):
    return norm_act_tangent(t, X, X, groups=2)


def cotangent(t):
    return norm_act_cotangent(t, X, X, groups=2)


Q = torch.randn(1, 2, 5, 4, dtype=torch.float64)
DQ = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)
ATTENTION = attention_primal(Q, Q, Q)
MATRICES = torch.randn(1, 5, 2, 4, 4, dtype=torch.float64)


def attend(q):
    return attention_primal(q, Q, Q).o


def attention_jvp(dq):
    return attention_tangent(ATTENTION, dq)


def attention_vjp(u):
    return attention_cotangent(ATTENTION, u)[0]


def rows(t):
    return rowwise_product(MATRICES, t)


CALLS = [
    (primal, X),
    (tangent, T),
    (cotangent, T),
    (attend, Q),
    (attention_jvp, DQ),
    (attention_vjp, DQ),
    (rows, DQ),
]


@pytest.mark.parametrize(("call", "x"), CALLS)
def test_requires_grad(call, x):
    x = x.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="requires grad while grad mode is on"):
        call(x)
    with torch.no_grad():
        assert torch.isfinite(call(x)).all()
    with torch.inference_mode():
        assert torch.isfinite(call(x)).all()


def test_parameters_are_taken_without_grad_only():
    gamma = torch.nn.Parameter(torch.ones(8, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="norm_act_primal: gamma must be a plain tensor"):
        norm_act_primal(X, gamma, groups=2)
    with torch.no_grad():
        assert not norm_act_primal(X, gamma, groups=2).y.requires_grad


@pytest.mark.parametrize(("call", "x"), CALLS)
def test_dual_tensor(call, x):
    with forward_ad.dual_level():
        with pytest.raises(RuntimeError, match="carries a forward-mode tangent"):
            call(forward_ad.make_dual(x, torch.ones_like(x)))
        with torch.no_grad(), pytest.raises(RuntimeError, match="carries a forward-mode tangent"):
            call(forward_ad.make_dual(x, torch.ones_like(x)))
        call(x)  # a plain one is fine, also in there


@pytest.mark.parametrize(("call", "x"), CALLS)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
        lambda f, x: torch.func.vjp(f, x),
        lambda f, x: torch.func.grad(lambda v: f(v).sum())(x),
        lambda f, x: torch.vmap(f)(torch.stack([x, x])),
        lambda f, x: torch.func.linearize(f, x),
        lambda f, x: torch.autograd.functional.jvp(f, (x,), (torch.ones_like(x),)),
    ],
    ids=["jvp", "vjp", "grad", "vmap", "linearize", "double-backward"],
)
def test_transforms(call, x, transform):
    with pytest.raises(RuntimeError, match="plain tensor outside differentiation"):
        transform(call, x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(("call", "x"), CALLS)
def test_compiled_derivatives_are_never_silently_zero(call, x, backend):
    torch._dynamo.reset()

    def derivative(v):
        return torch.func.jvp(lambda w: call(w * 2), (v,), (torch.ones_like(v),))[1]

    with pytest.raises(Exception, match=r"differentiation|cannot be traced"):
        torch.compile(derivative, backend=backend)(x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_backward_is_never_silently_zero(backend, fullgraph):
    torch._dynamo.reset()
    x = X.clone().requires_grad_()
    with pytest.raises(Exception, match=r"differentiation|cannot be traced|requires grad"):
        torch.compile(lambda v: primal(v * 2), backend=backend, fullgraph=fullgraph)(x).sum().backward()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_call_without_grad_is_right(backend):
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(lambda v: primal(v * 2) + 1, backend=backend)(X)
    torch.testing.assert_close(found, primal(X * 2) + 1)


def test_export_is_refused():
    class Norm(torch.nn.Module):
        def forward(self, x):
            return primal(x)

    with pytest.raises(Exception, match=r"cannot be traced|plain tensor"):
        torch.export.export(Norm(), (X,))


def test_fake_tensors_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode, pytest.raises(RuntimeError, match="is a FakeTensor"):
        primal(mode.from_tensor(X))


def test_a_pass_leaves_the_checks_on_behind_it() -> None:
    """A program's own tensors are not looked at again; those of the next call are, also after a pass that failed."""
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    with program_pass():
        kernels.norm_act_primal(x, groups=2)
    with pytest.raises(RuntimeError, match="norm_act_primal: x must be a plain tensor"):
        kernels.norm_act_primal(x, groups=2)
    with pytest.raises(KeyError), program_pass():
        raise KeyError
    with pytest.raises(RuntimeError, match="norm_act_primal: x must be a plain tensor"):
        kernels.norm_act_primal(x, groups=2)
