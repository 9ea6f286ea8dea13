"""Operators without a rule of their own: torch.func on that operator alone, or autograd's tape where that fails."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from latentjac.linearize.instruction import Instruction, Tensor, rule
from latentjac.linearize.places import at
from latentjac.linearize.tape import Tape, over_probes
from latentjac.linearize.trace import Call, DeclaredCall, Meta, TraceError, resolve

logger = logging.getLogger("latentjac")
_logged: set[str] = set()

Function = Callable[..., Sequence[Tensor]]


class NoDerivativeError(TypeError):
    """A function has an operator whose derivative is not known; the message names its line."""


class _Way(ABC):
    """Products with the Jacobian of a function at a point and with the transpose, over blocks of probes."""

    # Whether the products are each other's transpose by construction.
    adjoint = False

    def __init__(self, f: Function, point: Sequence[Tensor]) -> None:
        self._f, self._point = f, tuple(point)

    @abstractmethod
    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        """Tangents of the values."""

    @abstractmethod
    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Cotangents of the point; None is zero."""


class _Functional(_Way):
    """``torch.func.jvp`` and ``torch.func.vjp`` under ``vmap``."""

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        def one(*v: Tensor) -> tuple[Tensor, ...]:
            return cast("tuple[Tensor, ...]", torch.func.jvp(self._f, self._point, v)[1])

        return torch.func.vmap(one)(*t)

    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        values, pull = cast("tuple[Any, Any]", torch.func.vjp(self._f, *self._point))
        return torch.func.vmap(lambda *w: pull(w))(*_full(u, values))


class _Transposed(_Functional):
    """Reverse mode alone, where the operator has no forward mode."""

    adjoint = True

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        def one(*v: Tensor) -> Sequence[Tensor]:
            values, pull = cast("tuple[Any, Any]", torch.func.vjp(self._f, *self._point))
            # The transpose of the transpose, which is linear and so may be taken at zero.
            return torch.func.vjp(lambda *w: pull(w), *(torch.zeros_like(y) for y in values))[1](v)

        return torch.func.vmap(one)(*t)


class _Taped(_Way):
    """Autograd's tape, one probe at a time."""

    forward = False

    def __init__(self, f: Function, point: Sequence[Tensor]) -> None:
        super().__init__(f, point)
        self._tape = Tape(f, point, self.forward)

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        return over_probes(self._tape.push, t)

    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        return over_probes(self._tape.pull, _full(u, self._tape.values))


class _TapedForward(_Taped):
    """The same with the forward mode that a function declares."""

    forward = True


def _full(u: Sequence[Tensor | None], values: Sequence[Tensor]) -> list[Tensor]:
    like = next(w for w in u if w is not None)
    return [like.new_zeros(len(like), *y.shape) if w is None else w for w, y in zip(u, values, strict=True)]


class Fallback(Instruction):
    """Any operator, in the first way that works for it: right, but slower.

    Attributes:
        ways: Those that have not failed; :meth:`retreat` drops the first.
    """

    kernel = "torch.func"
    ways: tuple[type[_Way], ...] = (_Functional, _Transposed, _Taped, _TapedForward)

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta], reason: str = "") -> None:
        super().__init__(call, active, metas)
        # Integer outputs, such as the indices of a maximum, have no derivative.
        self._smooth = [i for i, slot in enumerate(call.outs) if metas[slot].smooth]
        if not _has_derivative(call.op):
            raise NoDerivativeError(f"linearize: f must be differentiable, got {call.target}, which has no derivative")
        self._say(reason)

    def _say(self, reason: str) -> None:
        target = self.call.target
        if target not in _logged:
            _logged.add(target)
            why = f"the rule for {target} failed ({reason})" if reason else f"no rule for {target}"
            logger.warning("linearize: %s; torch.func is used for it, which is slower", why)

    @property
    def adjoint(self) -> bool:
        """Whether the passes are each other's transpose by construction."""
        return self.ways[0].adjoint

    def retreat(self, reason: str) -> None:
        """Take the next way from the next primal on.

        Raises:
            TraceError: If there is none.
        """
        if len(self.ways) == 1:
            raise TraceError(f"{self.call.target} cannot be differentiated: {reason}")
        self.ways = self.ways[1:]

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        values = {slot: self.kept(env, slot) for slot in self.reads}

        def f(*point: Tensor) -> tuple[Tensor, ...]:
            value = self._evaluate({**values, **dict(zip(self.inputs, point, strict=True))})
            given = tuple(value) if self.call.multiple else (value,)
            return tuple(given[i] for i in self._smooth)

        self._values = values
        self._way = self.ways[0](f, [values[slot] for slot in self.inputs])

    def _evaluate(self, env: dict[int, Tensor]) -> Any:
        if self.call.target == "aten.scaled_dot_product_attention.default":
            return _attend(self.call, env)
        return self.call.evaluate(env)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor | Sequence[Tensor | None]:
        out: list[Tensor | None] = [None] * len(self.outs)
        for i, value in zip(self._smooth, self._way.push(t), strict=True):
            out[i] = value
        return out

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        return self._way.pull([u[i] for i in self._smooth])


def _attend(call: Call, env: dict[int, Tensor]) -> Tensor:
    """Attention in plain steps: the fused operators of torch have no forward mode and no second derivative."""
    given = resolve(call.arguments, env)
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    options = {name: given[name] for name in ("scale", "enable_gqa")}
    return torch.ops.aten._scaled_dot_product_attention_math(*(given[name] for name in names), **options)[0]


def _has_derivative(op: torch._ops.OpOverload) -> bool:
    """Whether autograd knows anything of an operator: of one that it does not know it takes the derivative for zero."""
    keys = ("Autograd", "AutogradCPU", "AutogradCUDA", "CompositeImplicitAutograd")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key) for key in keys)


@rule("latentjac.declared.default", complex_too=True)
class Declaration(Fallback):
    """A custom ``autograd.Function``: its own backward pass, and the transpose of that."""

    kernel = "its own backward"
    ways = (_Taped, _TapedForward)

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        self._smooth = [i for i, slot in enumerate(call.outs) if metas[slot].smooth]
        assert isinstance(call, DeclaredCall)
        self._declared = call.declared

    def retreat(self, reason: str) -> None:
        """Take the next way from the next primal on.

        Raises:
            NoDerivativeError: If there is none.
        """
        if len(self.ways) == 1:
            raise NoDerivativeError(
                f"linearize: f must be differentiable, got {self._declared.name}, whose backward pass is not a linear map "
                f"that autograd can transpose{at(self._declared.line)}: {reason}"
            )
        self.ways = self.ways[1:]
