"""Sums and products of tensors, and reductions."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from latentjac.linearization.instruction import (
    Instruction,
    Tensor,
    align,
    convert,
    only_active,
    rule,
    single,
    unbroadcast,
)
from latentjac.linearization.rules.activations import Diagonal
from latentjac.linearization.trace import Call, Meta, Ref


@rule(
    "aten.add.Tensor",
    "aten.sub.Tensor",
    "aten.rsub.Tensor",
    "aten.rsub.Scalar",
    "aten.add.Scalar",
    "aten.sub.Scalar",
    complex_too=True,
)
class Add(Instruction):
    """``y = a x1 + b x2``, with broadcasting; either may be constant."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        alpha = call.arguments.get("alpha", 1)
        first, second = (-alpha, 1) if "rsub" in call.target else (1, -alpha if "sub" in call.target else alpha)
        weights: dict[int, float] = dict.fromkeys(self.inputs, 0.0)
        for name, weight in (("self", first), ("other", second)):
            value = call.arguments[name]
            if isinstance(value, Ref) and value.slot in weights:
                weights[value.slot] += weight
        self.weights = [weights[slot] for slot in self.inputs]

    @property
    def is_plain_sum(self) -> bool:
        """Whether it is ``x1 + x2`` of two active inputs of one shape and dtype."""
        one_kind = len({self.metas[slot] for slot in (*self.inputs, *self.outs)}) == 1
        return len(self.inputs) == 2 and self.weights == [1, 1] and one_kind

    @property
    def constant(self) -> int | None:
        """Slot of the other summand in ``x + c``."""
        others = {value.slot for value in self.call.arguments.values() if isinstance(value, Ref)} - {*self.inputs}
        return others.pop() if len(self.inputs) == len(others) == 1 and self._is_plus else None

    @property
    def _is_plus(self) -> bool:
        return "add" in self.call.target and self.call.arguments.get("alpha", 1) == 1

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        shape = self.shape(self.outs[0])
        dtype = self.metas[self.outs[0]].dtype
        own = [mine and tangent.dtype == dtype for tangent, mine in zip(t, own, strict=True)]
        t = [align(tangent.to(dtype), len(shape)) for tangent in t]
        if len(t) == 2:
            return self._sum(t, own)
        whole = t[0].shape[1:] == shape
        scaled = t[0] if self.weights[0] == 1 else t[0] * self.weights[0]
        return scaled if whole else scaled.expand(-1, *shape)

    def _sum(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        full = [tangent.shape[1:] == self.shape(self.outs[0]) for tangent in t]
        for i, other in ((0, 1), (1, 0)):
            if own[i] and full[i] and self.weights[i] == 1:
                return t[i].add_(t[other], alpha=self.weights[other])
        if self.weights[0] == 1:
            return torch.add(t[0], t[1], alpha=self.weights[1])
        return torch.add(t[1] * self.weights[1], t[0], alpha=self.weights[0])

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        given = single(u)
        parts = [convert(unbroadcast(given, self.shape(slot)), self.metas[slot].dtype) for slot in self.inputs]
        return [part if w == 1 else part * w for part, w in zip(parts, self.weights, strict=True)]

    def flops(self) -> int:
        return self.metas[self.outs[0]].numel if len(self.inputs) == 2 else 0


class Scale(Diagonal):
    """A product or quotient with something that does not depend on x."""

    @property
    def number(self) -> float | None:
        """The factor, if it is a number of the trace."""
        value = next((v for n in ("other", "self") if isinstance(v := self.call.arguments[n], (int, float))), None)
        return value if value is None or "mul" in self.call.target else 1 / value

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        call, slot = self.call, self.inputs[0]
        other = call.arguments["other" if call.arguments["self"] == Ref(slot) else "self"]
        value = env[other.slot] if isinstance(other, Ref) else other
        factor = 1 / value if "div" in call.target else value
        if isinstance(factor, Tensor) and factor.device != env[slot].device:
            factor = factor.item()  # a number of the CPU, which may not be copied over while a GPU records
        # Factors of another dtype must not change the dtype of tangents. A number is written by the device itself.
        kind: dict[str, Any] = {"dtype": env[self.outs[0]].dtype, "device": env[slot].device}
        self.factor = factor.to(**kind) if isinstance(factor, Tensor) else torch.full((), factor, **kind)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        return [unbroadcast(super().cotangent(u, own, into)[0], self.shape(self.inputs[0]))]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        shape = self.shape(self.outs[0])
        whole = self.shape(self.inputs[0]) == shape
        return super().tangent([align(t[0], len(shape))], [own[0] and whole])


class Product(Instruction):
    """``y = x1 * x2`` of two values that depend on x."""

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._a, self._b = (self.kept(env, self.call.arguments[name].slot) for name in ("self", "other"))

    def _factors(self) -> list[Tensor]:
        if len(self.inputs) == 1:
            return [2 * self._a]
        return [self._b, self._a]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        ndim = len(self.shape(self.outs[0]))
        parts = [align(v, ndim) * factor for v, factor in zip(t, self._factors(), strict=True)]
        return parts[0] if len(parts) == 1 else torch.add(*parts)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [
            convert(unbroadcast(w * factor.conj(), self.shape(slot)), self.metas[slot].dtype)
            for slot, factor in zip(self.inputs, self._factors(), strict=True)
        ]

    def flops(self) -> int:
        return 3 * self.metas[self.outs[0]].numel


class Quotient(Product):
    """``y = x1 / x2`` where x2 depends on x."""

    def _factors(self) -> list[Tensor]:
        first, second = 1 / self._b, -self._a / self._b.square()
        if len(self.inputs) == 1:
            same = self.call.arguments["self"] == self.call.arguments["other"]
            return [torch.zeros_like(second) if same else second]
        return [first, second]


@rule("aten.mul.Tensor", "aten.mul.Scalar", complex_too=True)
def product(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction:
    """Product with a constant, or of two active values."""
    both = all(isinstance(v := call.arguments[n], Ref) and v.slot in active for n in ("self", "other"))
    return Product(call, active, metas) if both else Scale(call, active, metas)


@rule("aten.div.Tensor", "aten.div.Scalar", complex_too=True)
def quotient(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Quotient by a constant, or by an active value."""
    if only_active(call, active, "self"):
        return Scale(call, active, metas)
    return Quotient(call, active, metas) if isinstance(call.arguments["self"], Ref) else None


@rule("aten.neg.default")
class Negative(Diagonal):
    """``y = -x``."""

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self.factor = torch.full((), -1.0, dtype=env[self.outs[0]].dtype, device=env[self.outs[0]].device)


@rule("aten.sum.dim_IntList", "aten.sum.default", "aten.mean.dim", "aten.mean.default")
class Reduction(Instruction):
    """Sum or mean over some dimensions."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        shape = self.shape(self.inputs[0])
        dims = call.arguments.get("dim")
        self._dims = [d % len(shape) for d in (dims if dims else range(len(shape)))]
        self._kept = [1 if d in self._dims else size for d, size in enumerate(shape)]
        count = metas[self.inputs[0]].numel // max(1, metas[self.outs[0]].numel)
        self._weight = 1 / count if "mean" in call.target else 1.0

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        total = t[0].sum([d + 1 for d in self._dims]) if self._dims else t[0]
        return (total * self._weight).reshape(len(t[0]), *self.shape(self.outs[0]))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        scaled = (w * self._weight).reshape(len(w), *self._kept)
        return [scaled.expand(-1, *self.shape(self.inputs[0]))]

    def flops(self) -> int:
        return self.metas[self.inputs[0]].numel


@rule("aten.linalg_vector_norm.default", "aten.linalg_norm.default")
def vector_norm(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """The Euclidean norm along some dimensions; other norms have no rule."""
    order, dims = call.arguments["ord"], call.arguments["dim"]
    matrix = "vector" not in call.target and order is not None and len(dims or (0, 0)) > 1
    same = metas[call.outs[0]].dtype == metas[call.arguments["self"].slot].dtype
    return VectorNorm(call, active, metas) if order in (None, 2) and same and not matrix else None


class VectorNorm(Instruction):
    """``y = |x|``: the tangent is the dot product with the unit vector ``x / y``, which is zero where y is."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        shape, dims = self.shape(self.inputs[0]), call.arguments["dim"]
        self._dims = [d % len(shape) for d in (dims if dims else range(len(shape)))]
        self._kept = [1 if d in self._dims else size for d, size in enumerate(shape)]

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        x, y = env[self.inputs[0]], env[self.outs[0]].reshape(self._kept)
        self._unit = torch.where(y == 0, 0.0, x / y).to(self.metas[self.inputs[0]].dtype)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        total = (t[0] * self._unit).sum([d + 1 for d in self._dims])
        return total.reshape(len(total), *self.shape(self.outs[0]))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [w.reshape(len(w), *self._kept) * self._unit]

    def flops(self) -> int:
        return 2 * self.metas[self.inputs[0]].numel
