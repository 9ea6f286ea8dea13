"""Gated activations: a value times an activation of a gate, mostly the two halves of one projection."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from latentjac.kernels import gated_cotangent, gated_tangent
from latentjac.kernels.reference import statistics_dtype
from latentjac.linearization.instruction import Instruction, Tensor, rule, single
from latentjac.linearization.rules.activations import Pointwise
from latentjac.linearization.rules.arithmetic import Product
from latentjac.linearization.rules.shapes import Parts
from latentjac.linearization.trace import Call, Meta, Ref


class Gated(Instruction):
    """``y = value * act(gate)``; the primal keeps ``a = act(gate)`` and ``b = value * act'(gate)``.

    Value and gate are two slots, or the halves of one slot along a dimension: then a tangent is read once and a
    cotangent is written once, without views of the halves between them.

    Attributes:
        steps: The instructions it is made of.

    Args:
        steps: What it is made of, in order: an even split into two if both come from one, the activation, the product.
        value: Slot of the value.
        gate: Slot of the gate.
    """

    def __init__(self, steps: Sequence[Instruction], value: int, gate: int) -> None:
        first, last = steps[0], steps[-1]
        self.calls = [call for step in steps for call in step.calls]
        self.outs, self.metas = last.outs, last.metas
        self.steps, self._value, self._gate = steps, value, gate
        self._halves = isinstance(first, Parts)
        self.inputs = first.inputs if self._halves else (value, gate)
        self._dim = first.call.arguments["dim"] % len(self.shape(self.outs[0])) if self._halves else -1

    @property
    def kernel(self) -> str:
        """What computes it, and which activation."""
        name = self.steps[-2].call.target.split(".")[1]
        return f"gated ({name})"

    def primal(self, env: dict[int, Tensor]) -> None:
        for step in self.steps:
            step.primal(env)
        activation = self.steps[-2]
        assert isinstance(activation, Pointwise)
        if not self._halves:
            value = env[self._value]
            self._dim = 1 if value.ndim == 4 and not value.is_contiguous() else value.ndim - 1  # lies last in memory
        self._keep(env[self._value], env[activation.outs[0]], activation.factor)
        activation.factor = None  # in b now
        for slot in {slot for step in self.steps[:-1] for slot in step.outs} - {*self.inputs, *self.outs}:
            del env[slot]

    def _keep(self, value: Tensor, a: Tensor, slope: Tensor | None) -> None:
        assert slope is not None
        # Of a network in short numbers too: the kernels take factors in the type that they compute in.
        kind = statistics_dtype(value.dtype)
        self._a, self._b = (self._lay_out(v[None])[0] for v in (a.to(kind), value.to(kind) * slope.to(kind)))

    def _lay_out(self, t: Tensor) -> Tensor:
        """``[P, rows, C]`` of a tangent, without a copy where the channels lie last in memory."""
        moved = t.movedim(self._dim + 1, -1)
        return moved.reshape(len(t), -1, t.shape[self._dim + 1])

    def _restore(self, rows: Tensor, slot: int) -> Tensor:
        shape = self.shape(slot)
        rest = [size for d, size in enumerate(shape) if d != self._dim]
        return rows.reshape(len(rows), *rest, shape[self._dim]).movedim(-1, self._dim + 1)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        laid = [self._lay_out(v) for v in t]
        value, gate = self._split(laid[0]) if self._halves else laid
        return self._restore(gated_tangent(value, gate, self._a, self._b), self.outs[0])

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gate of both halves side by side."""
        first, second = rows.chunk(2, -1)
        return (first, second) if self._value < self._gate else (second, first)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        rows = self._lay_out(w)
        if self._halves:
            whole = rows.new_empty(*rows.shape[:2], 2 * rows.shape[2])
            gated_cotangent(rows, self._a, self._b, out=self._split(whole))
            return [self._restore(whole, self.inputs[0])]
        value, gate = gated_cotangent(rows, self._a, self._b)
        return [self._restore(value, self._value), self._restore(gate, self._gate)]

    def flops(self) -> int:
        return 3 * self.metas[self.outs[0]].numel


@rule("aten.glu.default")
class GatedLinearUnit(Gated):
    """``y = x1 * sigmoid(x2)`` with the halves of x along a dimension."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        self._dim: int = call.arguments["dim"] % len(self.shape(self.outs[0]))
        self._halves, self._value, self._gate = True, 0, 1

    @property
    def kernel(self) -> str:
        """What computes it, and which activation."""
        return "gated (sigmoid)"

    def primal(self, env: dict[int, Tensor]) -> None:
        value, gate = env[self.inputs[0]].chunk(2, self._dim)
        a = torch.sigmoid(gate)
        env[self.outs[0]] = value * a
        self._keep(value, a, a * (1 - a))


def gated(product: Product, activations: dict[int, Pointwise], parts: dict[int, Parts]) -> Gated | None:
    """The gated activation that a product ends, if it is one.

    Args:
        product: Of two values that depend on x.
        activations: Those whose result the product alone uses, by that slot.
        parts: Even splits into two whose halves are used once each, by the slots of the halves.
    """
    slots = [v.slot for name in ("self", "other") if isinstance(v := product.call.arguments[name], Ref)]
    for value, activated in (slots, slots[::-1]):
        activation = activations.get(activated)
        if activation is None or value == activated or activation.inputs[0] == value:
            continue
        gate = activation.inputs[0]
        if len({product.metas[slot] for slot in (value, gate, *product.outs)}) > 1:
            continue  # broadcast, or of two dtypes
        split = parts.get(value)
        together = [split] if split is not None and split is parts.get(gate) else []
        return Gated([*together, activation, product], value, gate)
    return None


def is_halving(instruction: Instruction) -> bool:
    """Whether it cuts its input into two equal parts."""
    if not isinstance(instruction, Parts) or len(instruction.outs) != 2:
        return False
    first, second = (instruction.shape(slot) for slot in instruction.outs)
    whole = math.prod(instruction.shape(instruction.inputs[0]))
    return first == second and 2 * math.prod(first) == whole
