"""Operators without a rule of their own: torch.func on that operator alone, or autograd's tape where that fails."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from latentjac.linearization.instruction import Instruction, Tensor, rule
from latentjac.linearization.locks import exclusion
from latentjac.linearization.trace import Call, DeclaredCall, Meta, TraceError, resolve
from latentjac.linearization.ways import (
    Functional,
    NoDerivativeError,
    Taped,
    TapedForward,
    Transposed,
    Way,
    has_derivative,
)

logger = logging.getLogger("latentjac")
_logged: set[str] = set()


class Fallback(Instruction):
    """Any operator, in the first way that works for it: right, but slower.

    Attributes:
        ways: Those that have not failed; :meth:`retreat` drops the first.
    """

    kernel = "torch.func"
    _reason = ""
    ways: tuple[type[Way], ...] = (Functional, Transposed, Taped, TapedForward)

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta], reason: str = "") -> None:
        super().__init__(call, active, metas)
        # Integer outputs, such as the indices of a maximum, have no derivative.
        self._smooth = [i for i, slot in enumerate(call.outs) if metas[slot].smooth]
        self._name = call.target
        if not has_derivative(call.op):
            raise NoDerivativeError(f"linearize: f must be differentiable, got {self._name}, which has no derivative")
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
            NoDerivativeError: If there is none, and the operator is not one of torch's.
        """
        why = self._reason = self._reason or reason  # the first concerns the best way
        if len(self.ways) == 1:
            kind = TraceError if self.call.target.startswith("aten.") else NoDerivativeError
            raise kind(
                f"linearize: f must be differentiable, got {self._name}, which torch cannot differentiate: {why}"
            )
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
        plain = _IN_STEPS.get(self.call.target)
        return self.call.evaluate(env) if plain is None else plain(resolve(self.call.arguments, env))

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor | Sequence[Tensor | None]:
        out: list[Tensor | None] = [None] * len(self.outs)
        with exclusion.alone():  # forward mode has levels that all threads share
            pushed = self._way.push(t)
        for i, value in zip(self._smooth, pushed, strict=True):
            out[i] = value
        return out

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        with exclusion.alone():
            return self._way.pull([u[i] for i in self._smooth])


def _attend(given: dict[str, Any]) -> Tensor:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    options = {name: given[name] for name in ("scale", "enable_gqa")}
    return torch.ops.aten._scaled_dot_product_attention_math(*(given[name] for name in names), **options)[0]


def _distances(given: dict[str, Any]) -> Tensor:
    differences = given["x1"].unsqueeze(-2) - given["x2"].unsqueeze(-3)
    return torch.linalg.vector_norm(differences, given["p"], dim=-1)


# Operators that torch has in one piece without a forward mode or a second derivative, in steps that have both.
_IN_STEPS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "aten.scaled_dot_product_attention.default": _attend,
    "aten.cdist.default": _distances,
}


@rule("latentjac.declared.default", complex_too=True)
class Declaration(Fallback):
    """A custom ``autograd.Function``: its own backward pass, and the transpose of that."""

    kernel = "its own backward"
    ways = (Taped, TapedForward)

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        self._smooth = [i for i, slot in enumerate(call.outs) if metas[slot].smooth]
        assert isinstance(call, DeclaredCall)
        self._name = call.declared.name
