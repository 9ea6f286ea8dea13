"""What a program does about rules that fail, and passes that are not adjoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import rand
from truth import dense_jacobian

from latentjac import linearize
from latentjac.linearization import ProgramLinearization, TraceError
from latentjac.linearization.instruction import RULES, Instruction
from latentjac.linearization.program import Program
from latentjac.linearization.rules import fallback
from latentjac.linearization.rules.activations import Diagonal, Pointwise
from latentjac.linearization.rules.convolution import Convolution
from latentjac.linearization.rules.fallback import Fallback
from latentjac.linearization.rules.norms import Norm
from latentjac.linearization.ways import Functional

Tensor = torch.Tensor


def f(x: Tensor, w: Tensor) -> Tensor:
    h = F.silu(F.group_norm(x, 2) * 0.5)
    return x.sin() + F.conv2d(h, w, padding=1) * h


X, W = rand(2, 4, 5, 5), rand(4, 4, 3, 3)


def raises(*args: Any) -> Any:
    raise ValueError("not here")


def wrong(method: Callable) -> Callable:
    def changed(self: Instruction, given: Sequence[Tensor], *rest: Any) -> Any:
        out = method(self, given, *rest)
        return 1.01 * out if isinstance(out, Tensor) else [None if t is None else 1.01 * t for t in out]

    return changed


@pytest.mark.parametrize("step", ["primal", "tangent", "cotangent"])
@pytest.mark.parametrize("kind", [Norm, Convolution, Diagonal])
def test_a_rule_that_raises_is_replaced_on_its_operators_alone(
    kind: type, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kind if step in vars(kind) else Pointwise, step, raises)
    monkeypatch.setattr(fallback, "_logged", set())
    with caplog.at_level(logging.WARNING, "latentjac"):
        lin = linearize(f, X, W, backend="program")
    check(lin)
    assert "the rule for" in caplog.text
    assert "ValueError: not here" in caplog.text
    kept = [i for i in lin.program.instructions if isinstance(i, (Norm, Convolution)) and not isinstance(i, kind)]
    assert len(kept) >= (1 if kind in (Norm, Convolution) else 2) - (kind is Diagonal and step == "primal")


@pytest.mark.parametrize("step", ["tangent", "cotangent"])
@pytest.mark.parametrize("kind", [Norm, Convolution, Diagonal])
def test_a_pair_that_is_not_adjoint_is_replaced(kind: type, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, step, wrong(vars(kind)[step]))
    for dtype in (torch.float64, torch.float32):
        lin = linearize(f, X.to(dtype), W.to(dtype), backend="program")
        assert any(type(i) is Fallback for i in lin.program.instructions)
        if dtype == torch.float64:
            check(lin)


def check(lin: ProgramLinearization) -> None:
    jacobian = dense_jacobian(f, X, W)
    v, u = rand(2, *X.shape, seed=2), rand(2, *X.shape, seed=3)
    torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian, rtol=1e-9, atol=1e-9)


def test_nothing_is_replaced_where_nothing_fails() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        lin = linearize(f, X.to(dtype), W.to(dtype), backend="program")
        assert not any(type(i) is Fallback for i in lin.program.instructions)
    # Tangents that all but cancel are no mismatch.
    saturated = linearize(lambda x: F.softmax(1e4 * x, -1).float(), X.float(), backend="program")
    assert not any(type(i) is Fallback for i in saturated.program.instructions)


def test_what_fails_as_a_whole_is_left_to_torch_func(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Program, "cotangent", raises)
    with caplog.at_level(logging.WARNING, "latentjac"):
        lin = linearize(f, X, W)
    assert lin.backend == "autodiff"
    assert "a pass failed: ValueError: not here" in caplog.text
    with pytest.raises(TraceError, match="not here"):
        linearize(f, X, W, backend="program")


def test_operators_that_vmap_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Functional, "pull", raises)
    monkeypatch.delitem(RULES, "aten.conv2d.default")
    lin = linearize(f, X, W, backend="program")
    (used,) = [i for i in lin.program.instructions if type(i) is Fallback]
    assert "Taped" in used.ways[0].__name__
    check(lin)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError("limits"),
    ],
    ids=["of a GPU", "of a processor", "of Python"],
)
def test_running_out_of_memory_is_no_fault_of_a_rule(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def out_of_memory(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(Convolution, "tangent", out_of_memory)
    with pytest.raises(type(error), match=str(error)):
        linearize(f, X, W)
