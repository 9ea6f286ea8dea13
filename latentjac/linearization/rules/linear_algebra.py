"""Matrix products."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from latentjac.linearization.instruction import Instruction, Tensor, align, only_active, rule, single, unbroadcast
from latentjac.linearization.precision import packs
from latentjac.linearization.trace import Call, Meta


class _Kernel:
    """``x @ w.T`` for a fixed w, in the fastest form there is for it."""

    def __init__(self, weight: Tensor) -> None:
        self.packed = weight.device.type == "cpu" and packs(weight.dtype)
        # oneDNN, with w in its own layout, is over twice as fast as MKL where the processor is not Intel's.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if self.packed else weight

    def __call__(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """The product, to which ``addend`` is added if given."""
        if not self.packed:
            y = F.linear(x, self._weight)
            return y if addend is None else y.add_(addend)
        x = x.contiguous()
        if addend is None:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return torch.ops.mkldnn._linear_pointwise.binary(x, addend.contiguous(), self._weight, None, "add")


def _join(parts: Sequence[Tensor]) -> Tensor:
    """The parts as one, along the last dimension; a view where they lie side by side already."""
    first, at = parts[0], parts[0].storage_offset()
    for part in parts:
        beside = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not beside or part.storage_offset() != at or part.stride() != first.stride():
            return torch.cat(list(parts), -1)
        at += part.shape[-1]
    width = sum(part.shape[-1] for part in parts)
    return first.as_strided((*first.shape[:-1], width), first.stride())


class Project(Instruction):
    """``y_i = x W_i^T + b_i`` for one or several weights at once, also with a tensor added to it."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._sources: list[Tensor] = []
        self.addend: int | None = None

    @property
    def kernel(self) -> str:
        """How many products are one."""
        name = "onednn linear" if self._sources and self._forward.packed else "matmul"
        count = f" of {len(self.calls)} as one" if self.addend is None and len(self.calls) > 1 else ""
        return name + count + (" += residual" if self.addend is not None else "")

    def absorb(self, other: Project) -> None:
        """Fuse another linear layer of the same input."""
        self.calls = [*self.calls, *other.calls]
        self.outs = (*self.outs, *other.outs)

    def add_to(self, total: Instruction, addend: int) -> None:
        """Fuse a sum with another value."""
        self.calls = [*self.calls, *total.calls]
        self.inputs, self.outs, self.addend = (*self.inputs, addend), total.outs, addend

    @property
    def _projections(self) -> list[Call]:
        return self.calls[: len(self.outs)]

    def primal(self, env: dict[int, Tensor]) -> None:
        sources = [env[call.arguments["weight"].slot] for call in self._projections]
        if len(sources) != len(self._sources) or any(a is not b for a, b in zip(sources, self._sources, strict=True)):
            self._sources = sources
            weight = torch.cat(sources) if len(sources) > 1 else sources[0]
            self._widths = [len(source) for source in sources]
            weight = weight.to(self.metas[self.outs[0]].dtype)
            self._forward, self._backward = _Kernel(weight), _Kernel(weight.T)
        for call, out in zip(self._projections, self.outs, strict=True):
            env[out] = call.evaluate(env)
        if self.addend is not None:
            env[self.outs[0]] = env[self.outs[0]] + env[self.addend]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Sequence[Tensor]:
        y = self._forward(t[0], None if self.addend is None else t[1])
        return [y] if len(self.outs) == 1 else y.split(self._widths, -1)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        like = next(w for w in u if w is not None)
        parts = [
            like.new_zeros(*like.shape[:-1], width) if w is None else w
            for w, width in zip(u, self._widths, strict=True)
        ]
        whole = parts[0] if len(parts) == 1 else _join(parts)
        first = self._backward(whole)
        return [first] if self.addend is None else [first, parts[0]]

    def flops(self) -> int:
        rows = self.metas[self.inputs[0]].numel // self.shape(self.inputs[0])[-1]
        return 2 * rows * sum(self.metas[call.arguments["weight"].slot].numel for call in self._projections)


@rule("aten.linear.default")
def linear(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Linear layer with weights that do not depend on x."""
    return Project(call, active, metas) if only_active(call, active, "input") else None


@rule("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
class MatrixProduct(Instruction):
    """``y = A B`` where either or both depend on x."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        first, second = ("self", "other") if "other" in call.arguments else ("self", "mat2")
        self._a, self._b = call.arguments[first].slot, call.arguments[second].slot

    @property
    def factors(self) -> tuple[int, int, bool]:
        """Slots of A and B, and whether it is ``A B^T``, which it is not."""
        return self._a, self._b, False

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._values = (self.kept(env, self._a), self.kept(env, self._b))

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        a, b = self._values
        total: Tensor | None = None
        for slot, v in zip(self.inputs, t, strict=True):
            if slot == self._a:
                total = _plus(total, _matmul(_leading(v, b.ndim), b))
            if slot == self._b:
                total = _plus(total, _matmul(a, _leading(v, a.ndim)))
        assert total is not None
        return total

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        out: list[Tensor] = []
        for slot in self.inputs:
            total = self._pulled(slot, w)
            assert total is not None
            out.append(total)
        return out

    def _pulled(self, slot: int, w: Tensor) -> Tensor | None:
        """The cotangent of a factor."""
        a, b = self._values
        total: Tensor | None = None
        if slot == self._a:
            total = unbroadcast(_matmul(w, b.mT), self.shape(slot))
        if slot == self._b:
            total = _plus(total, unbroadcast(_matmul(a.mT, w), self.shape(slot)))
        return total

    def flops(self) -> int:
        return 2 * len(self.inputs) * self.metas[self.outs[0]].numel * self.shape(self._a)[-1]


def _plus(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)


def _leading(v: Tensor, ndim: int) -> Tensor:
    """Unit dimensions behind the probes, for as many batch dimensions as the other factor has."""
    missing = ndim + 1 - v.ndim
    return v.reshape(len(v), *([1] * missing), *v.shape[1:]) if missing > 0 else v


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@rule("aten.addmm.default", "aten.baddbmm.default")
class ProductWithSum(MatrixProduct):
    """``y = beta c + alpha A B``, any of which may depend on x."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        names = ("batch1", "batch2") if "baddbmm" in call.target else ("mat1", "mat2")
        self._a, self._b = (call.arguments[name].slot for name in names)
        self.addend: int = call.arguments["self"].slot
        self.alpha, self.beta = call.arguments["alpha"], call.arguments["beta"]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        total = super().tangent(t, own) if {self._a, self._b}.intersection(self.inputs) else None
        total = total if total is None or self.alpha == 1 else total * self.alpha
        if self.addend not in self.inputs:
            assert total is not None
            return total
        shape = self.shape(self.outs[0])
        added = align(t[self.inputs.index(self.addend)], len(shape)) * self.beta
        return added.expand(-1, *shape) if total is None else total + added

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        scaled = w if self.alpha == 1 else w * self.alpha
        out: list[Tensor] = []
        for slot in self.inputs:
            total = self._pulled(slot, scaled)
            if slot == self.addend:
                added = unbroadcast(w, self.shape(slot)) * self.beta
                total = added if total is None else total + added
            assert total is not None
            out.append(total)
        return out
