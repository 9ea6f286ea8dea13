"""Whatever f does about gradients, both products are those of one derivative, or f is refused with its line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import rand
from torch import nn
from torch.autograd import Function, forward_ad
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from latentjac import linearize
from latentjac.linearization import NoDerivativeError, ProgramLinearization

Tensor = torch.Tensor

BACKENDS = ("program", "autodiff")
X = torch.tensor([[3.0, 4.0, -1.5]], dtype=torch.float64)


def jacobians(f: Callable[..., Tensor], x: Tensor, *constants: Any, backend: str) -> tuple[Tensor, Tensor]:
    """By columns and by rows."""
    lin = linearize(f, x, *constants, backend=backend)
    n, m = x.numel(), lin.y.numel()
    columns = lin.jvp(torch.eye(n, dtype=x.dtype).reshape(n, *x.shape)).reshape(n, m).T
    rows = lin.vjp(torch.eye(m, dtype=x.dtype).reshape(m, *lin.y.shape)).reshape(m, n)
    return columns, rows


class Straight(Function):
    """Rounding whose derivative is declared to be 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Tripled(Function):
    """The modern form, with a derivative that is declared to be 3."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * g


class Cube(Function):
    """Two results, a number among the arguments, and both modes, of which reverse cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        ctx.k = k
        return k * x**3, x.argmax()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> Any:
        return 3 * ctx.k * ctx.saved_tensors[0] ** 2 * g, None

    @staticmethod
    def jvp(ctx: Any, t: Tensor, _: None) -> Any:
        return 3 * ctx.k * ctx.saved_tensors[0] ** 2 * t, None


class Clipped(Function):
    """A backward pass that is not linear."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.abs()


@torch.no_grad()
def square_without_grad(x: Tensor) -> Tensor:
    return x * x


@torch.inference_mode()
def square_in_inference(x: Tensor) -> Tensor:
    return x * x


def switched_off(x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    h = x * x
    torch.set_grad_enabled(True)
    return h


def region(x: Tensor) -> Tensor:
    with torch.no_grad():
        h = x.sin()
    with torch.inference_mode():
        h = h * x
    with torch.enable_grad():
        return h + x


def hooked(x: Tensor) -> Tensor:
    h = x * 2
    if h.requires_grad:
        h.register_hook(lambda g: g * 10)
    return h * x


def depends_on_grad_mode(x: Tensor) -> Tensor:
    return x * x if torch.is_grad_enabled() else x**3


LINEAR = nn.Linear(3, 3).double()
HOOKED = nn.Linear(3, 3).double()
HOOKED.register_full_backward_hook(lambda module, grad_input, grad_output: (grad_input[0] * 2,))
FEW = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
_straight = Straight.apply  # a reference that was taken before anything is traced


def _matrix(f: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.autograd.functional.jacobian(f, X).reshape(3, 3)


RULES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[], Tensor]]] = {
    "no_grad": (square_without_grad, lambda: torch.diag(2 * X[0])),
    "inference_mode": (square_in_inference, lambda: torch.diag(2 * X[0])),
    "set_grad_enabled": (switched_off, lambda: torch.diag(2 * X[0])),
    "regions": (region, lambda: torch.diag((X.sin() + X * X.cos() + 1)[0])),
    "grad mode is off": (depends_on_grad_mode, lambda: torch.diag(3 * X[0] ** 2)),
    "detach": (lambda x: x.detach() * x, lambda: torch.diag(X[0])),
    "data": (lambda x: x.data * x, lambda: torch.diag(X[0])),
    "detach and writing": (lambda x: (h := x.detach().clone(), h.add_(1), x * h)[2], lambda: torch.diag(X[0] + 1)),
    "hook": (hooked, lambda: torch.diag(4 * X[0])),
    "hook of a module": (HOOKED, lambda: HOOKED.weight),
    "checkpoint": (lambda x: checkpoint(FEW, x, use_reentrant=False), lambda: _matrix(FEW)),
    "reentrant checkpoint": (lambda x: checkpoint(FEW, x, use_reentrant=True), lambda: _matrix(FEW)),
    "straight-through": (lambda x: 2 * Straight.apply(x), lambda: 2 * torch.eye(3, dtype=X.dtype)),
    "straight-through by reference": (lambda x: 2 * _straight(x), lambda: 2 * torch.eye(3, dtype=X.dtype)),
    "a function itself": (Straight.apply, lambda: torch.eye(3, dtype=X.dtype)),
    "modern function": (Tripled.apply, lambda: 3 * torch.eye(3, dtype=X.dtype)),
    "two results and forward mode": (lambda x: Cube.apply(x, 2)[0], lambda: torch.diag(6 * X[0] ** 2)),
    "function of a constant": (lambda x: x * Straight.apply(LINEAR.bias), lambda: torch.diag(LINEAR.bias.round())),
    "function in a module": (
        nn.Sequential(LINEAR, type("Step", (nn.Module,), {"forward": lambda self, x: Straight.apply(x)})()),
        lambda: LINEAR.weight,
    ),
    "energy": (lambda x: torch.func.grad(lambda z: (z**3).sum())(x), lambda: torch.diag(6 * X[0])),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["auto", "autodiff"])
@pytest.mark.parametrize("name", RULES)
def test_the_derivative_is_that_of_the_values(name: str, backend: str) -> None:
    f, expected = RULES[name]
    columns, rows = jacobians(f, X, backend=backend)
    torch.testing.assert_close(columns, rows, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rows, expected().detach(), rtol=1e-10, atol=1e-10)


def test_only_what_cannot_be_traced_is_left_to_torch_func() -> None:
    assert {name for name, (f, _) in RULES.items() if linearize(f, X).backend != "program"} == {"energy"}


def test_declared_functions_follow_the_base_point() -> None:
    lin = linearize(lambda x: Cube.apply(x.sin(), 3)[0], X, backend="program")
    lin.rebase(X + 1)
    v = rand(2, *X.shape)
    torch.testing.assert_close(lin.jvp(v), 9 * (X + 1).sin() ** 2 * (X + 1).cos() * v)
    assert lin.check_adjoint() < 1e-12
    assert "its own backward" in lin.program.describe()


def test_torch_is_left_as_it_was() -> None:
    before = torch.is_grad_enabled, torch._C._InferenceMode
    for backend in BACKENDS:
        linearize(region, X, backend=backend)
    assert before == (torch.is_grad_enabled, torch._C._InferenceMode)
    assert "apply" not in vars(torch.autograd.function._SingleLevelFunction)
    x = X.clone().requires_grad_()
    hooked(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * X + 20 * X)  # hooks are called again


LIBRARY = torch.library.Library("latentjac_tests", "DEF")
LIBRARY.define("unknown(Tensor x) -> Tensor")
LIBRARY.impl("unknown", lambda x: x * x, "CPU")
LIBRARY.impl("unknown", torch.empty_like, "Meta")


@torch.library.custom_op("latentjac_tests::halved", mutates_args=())
def halved(x: Tensor) -> Tensor:
    return x / 2


@torch.library.custom_op("latentjac_tests::third_power", mutates_args=())
def third_power(x: Tensor) -> Tensor:
    return x**3


for _operator in (halved, third_power):
    _operator.register_fake(torch.empty_like)
third_power.register_autograd(
    lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_operators_from_elsewhere_with_a_derivative(backend: str) -> None:
    columns, rows = jacobians(lambda x: third_power(x.sin()), X, backend=backend)
    expected = torch.diag((3 * X.sin() ** 2 * X.cos())[0])
    torch.testing.assert_close(columns, expected)
    torch.testing.assert_close(rows, expected)


def _line(f: Callable[..., Any]) -> str:
    return f"{__file__}:{inspect.getsourcelines(f)[1] + 1}"


def calls_unknown(x: Tensor) -> Tensor:
    return torch.ops.latentjac_tests.unknown(x.sin())


def calls_halved(x: Tensor) -> Tensor:
    return halved(x.sin())


def calls_clipped(x: Tensor) -> Tensor:
    return Clipped.apply(x)


def calls_heaviside(x: Tensor) -> Tensor:
    return torch.heaviside(x, x.sin())


@pytest.mark.parametrize("backend", ["auto", "autodiff"])
@pytest.mark.parametrize("f", [calls_unknown, calls_halved, calls_clipped])
def test_what_has_no_derivative_is_refused_with_its_line(f: Callable, backend: str) -> None:
    with pytest.raises(NoDerivativeError, match="linearize: f must be differentiable") as caught:
        linearize(f, X, backend=backend)
    assert _line(f) in str(caught.value)


def test_operators_of_torch_without_a_derivative_are_refused() -> None:
    with pytest.raises(NoDerivativeError, match="heaviside") as caught:
        linearize(calls_heaviside, X)
    assert _line(calls_heaviside) in str(caught.value)
    with pytest.raises(NoDerivativeError, match="heaviside"):
        linearize(calls_heaviside, X, backend="autodiff")


def test_operators_without_a_derivative_may_act_on_constants() -> None:
    for backend in BACKENDS:
        columns, rows = jacobians(lambda x, c: x * torch.ops.latentjac_tests.unknown(c), X, X + 1, backend=backend)
        torch.testing.assert_close(columns, torch.diag((X[0] + 1) ** 2))
        torch.testing.assert_close(rows, columns)


def autocast_off(x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.linear(x.sin(), LINEAR.weight)


def autocast_on(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = F.linear(x.float().sin(), LINEAR.weight.float())
        return F.layer_norm(h, (3,)).double() + h


def autocast_of_both(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.autocast("cpu", enabled=False):
            h = F.linear(x.float().sin(), LINEAR.weight.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.linear(h, LINEAR.weight.float()).double()


def test_autocast_inside_autocast() -> None:
    expected = autocast_of_both(X).detach()
    assert not torch.equal(expected, F.linear(F.linear(X.float().sin(), LINEAR.weight.float()), LINEAR.weight.float()))
    for backend in BACKENDS:
        torch.testing.assert_close(linearize(autocast_of_both, X, backend=backend).y, expected, rtol=1e-3, atol=1e-3)


def test_autocast_as_it_is_already_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.export.ExportedProgram, "run_decompositions")
    with torch.autocast("cpu", dtype=torch.bfloat16):  # of the caller, which counts for nothing
        assert linearize(autocast_off, X, backend="program").backend == "program"
    with pytest.raises(RuntimeError, match="run_decompositions"):
        linearize(autocast_on, X, backend="program")


def test_autocast_regions() -> None:
    for backend in BACKENDS:
        columns, rows = jacobians(autocast_off, X, backend=backend)
        torch.testing.assert_close(columns, LINEAR.weight.detach() * X.cos())
        torch.testing.assert_close(rows, columns)
        lin = linearize(autocast_on, X, backend=backend)
        torch.testing.assert_close(lin.y, autocast_on(X).detach(), rtol=1e-3, atol=1e-3)
        assert lin.check_adjoint() < 0.05  # bfloat16, whose products differ between processors
    one, other = (jacobians(autocast_on, X, backend=backend)[1] for backend in BACKENDS)
    torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_surroundings_of_the_caller_change_nothing(backend: str) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 2))
    f, x, v, u = (lambda z, c: net(z) * c), X.float(), rand(2, 1, 3).float(), rand(2, 1, 2).float()
    c = torch.ones(2)
    lin = linearize(f, x, c, backend=backend)
    expected = lin.y, lin.jvp(v), lin.vjp(u)
    for surroundings in (
        torch.inference_mode,
        functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
        torch.no_grad,
    ):
        with surroundings():
            made = linearize(f, x.clone(), c.clone(), backend=backend)
            for each in (lin, made):
                each.rebase(x.clone(), c.clone())
                for found, right in zip((each.y, each.jvp(v.clone()), each.vjp(u.clone())), expected, strict=True):
                    torch.testing.assert_close(found, right)
        made.rebase(x)
        torch.testing.assert_close(made.jvp(v), expected[1])


def test_networks_made_in_inference_mode() -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3))
    x = rand(1, 2, 4, 4).float()
    one, other = (linearize(net, x, backend=backend) for backend in BACKENDS)
    v, u = rand(2, *x.shape).float(), rand(2, *one.y.shape).float()
    torch.testing.assert_close(one.jvp(v), other.jvp(v), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.vjp(u), other.vjp(u), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_constants_that_take_part_in_differentiation_are_refused(backend: str) -> None:
    def call(c: Any) -> Tensor:
        return linearize(lambda x, c: x * (c["a"][0] if isinstance(c, dict) else c), X, c, backend=backend).y

    c = rand(3)
    with pytest.raises(RuntimeError, match=r"linearize: constants\[0\] must be a plain tensor .* requires grad"):
        call(c.clone().requires_grad_())
    with pytest.raises(
        RuntimeError, match=r"linearize: constants\[0\]\['a'\]\[0\] must be a plain tensor .* requires grad"
    ):
        call({"a": [c.clone().requires_grad_()]})
    with torch.no_grad():
        call(c.clone().requires_grad_())
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=r"constants\[0\] must be .* forward-mode"):
        call(forward_ad.make_dual(c, c))
    for transform in (
        torch.func.grad(lambda z: call(z).sum()),
        torch.func.vmap(call),
        lambda z: torch.func.jvp(call, (z,), (z,)),
    ):
        with pytest.raises(
            RuntimeError, match=r"linearize: (cannot be called inside torch.func|constants\[0\] .* torch.func)"
        ):
            transform(c)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_that_f_closes_over_and_that_take_part_in_differentiation_are_refused(backend: str) -> None:
    c = rand(3)
    with pytest.raises(RuntimeError, match=r"torch.func"):
        torch.func.grad(lambda w: linearize(lambda x: x * w, X, backend=backend).y.sum())(c)
    with pytest.raises(RuntimeError, match=r"torch.func"):
        torch.func.vmap(lambda w: linearize(lambda x: x * w, X, backend=backend).y)(c[None])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(c, c)
        with pytest.raises(RuntimeError, match="forward-mode tangent"):
            linearize(lambda x: x * dual, X, backend=backend)
        linearize(lambda x: x * c, X, backend=backend)
    parameter = nn.Parameter(c.clone())
    torch.testing.assert_close(jacobians(lambda x: x * parameter, X, backend=backend)[0], torch.diag(c))


@pytest.mark.parametrize("backend", ["auto", "program", "autodiff"])
@pytest.mark.parametrize(
    ("f", "got"),
    [(lambda x: {"a": x}, "dict"), (lambda x: (x, 1), "tuple"), (lambda x: (), "tuple"),
     (lambda x: None, "NoneType"), (lambda x: 3.0, "float"),
     (lambda x: x.argmax(-1), "dtype torch.int64"), (lambda x: x > 0, "dtype torch.bool"),
     (lambda x: torch.fft.fft(x), "dtype torch.complex128")],
)  # fmt: skip
def test_results_that_are_not_one_real_tensor_are_refused(f: Callable, got: str, backend: str) -> None:
    with pytest.raises(TypeError, match=f"linearize: f must return one floating-point torch.Tensor, got {got}"):
        linearize(f, X, backend=backend)


def test_numbers_read_off_x_are_constants_and_named_where_they_are_demanded_to_be_traced() -> None:
    def reads(x: Tensor) -> Tensor:
        return x * x.sum().item()

    columns, rows = jacobians(reads, X, backend="auto")
    torch.testing.assert_close(columns, torch.eye(3, dtype=X.dtype) * X.sum())
    torch.testing.assert_close(rows, columns)
    with pytest.raises(RuntimeError, match="reads a number") as caught:
        ProgramLinearization(reads, X)
    assert _line(reads) in str(caught.value)


def writes_to_constant(x: Tensor, c: Tensor) -> Tensor:
    c += 1
    c[..., :1] = x[..., :1]
    return c * x


def writes_to_x(x: Tensor, c: Tensor) -> Tensor:
    x.mul_(2)
    return x * x * c


@pytest.mark.parametrize("backend", ["auto", "autodiff"])
@pytest.mark.parametrize("f", [writes_to_constant, writes_to_x])
def test_functions_that_write_to_their_arguments_write_to_copies(f: Callable, backend: str) -> None:
    x, c = X.clone(), rand(1, 3)
    kept = c.clone()
    columns, rows = jacobians(f, x, c, backend=backend)
    assert torch.equal(x, X)
    assert torch.equal(c, kept)
    expected = torch.diag((c + 1)[0]) if f is writes_to_constant else torch.diag((8 * X * c)[0])
    if f is writes_to_constant:
        expected[0, 0] = 2 * X[0, 0]
    torch.testing.assert_close(columns, expected)
    torch.testing.assert_close(rows, expected)
