"""Operators that only move entries: views, concatenation, slices, padding."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from latentjac.linearization.instruction import (
    Inactive,
    Instruction,
    Tensor,
    align,
    convert,
    only_active,
    rule,
    single,
    unbroadcast,
)
from latentjac.linearization.rules.fallback import Fallback
from latentjac.linearization.rules.resampling import Resample
from latentjac.linearization.trace import Call, Meta, Ref


class _OfSelf(Instruction):
    """Takes values from ``self`` alone; another tensor among its arguments gives no more than a shape or dtype."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._self: int = call.arguments["self"].slot
        self.inputs = tuple(slot for slot in self.inputs if slot == self._self)


@rule(
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.view_as.default",
    "aten.reshape_as.default",
    "aten.ravel.default",
    complex_too=True,
)
class Reshape(_OfSelf):
    """The same entries in the same order under another shape."""

    kernel = "view"

    def primal(self, env: dict[int, Tensor]) -> None:
        # Not the traced operator: a view that is valid for one memory layout is not for another.
        env[self.outs[0]] = env[self._self].reshape(self.shape(self.outs[0]))

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return t[0].reshape(len(t[0]), *self.shape(self.outs[0]))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [w.reshape(len(w), *self.shape(self.inputs[0]))]


@rule(
    "aten.transpose.int",
    "aten.permute.default",
    "aten.t.default",
    "aten.swapaxes.default",
    "aten.swapdims.default",
    "aten.movedim.int",
    "aten.movedim.intlist",
    "aten.numpy_T.default",
    "aten.mT.default",
    complex_too=True,
)
class Permute(Instruction):
    """Dimensions in another order."""

    kernel = "view"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        # The order is read off an empty tensor whose strides tell its dimensions apart.
        ndim = len(self.shape(self.inputs[0]))
        probe = torch.empty([2] * ndim, device="meta")
        order = call.evaluate({self.inputs[0]: probe}).stride()
        self._order = [0, *(probe.stride().index(stride) + 1 for stride in order)]
        self._back = [self._order.index(d) for d in range(ndim + 1)]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return t[0].permute(self._order)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [w.permute(self._back)]


@rule("aten.view_as_complex.default", "aten.view_as_real.default", complex_too=True)
class Pairs(Instruction):
    """Pairs of real numbers as complex ones, or back: each is the other's transpose."""

    kernel = "view"

    def _view(self, t: Tensor) -> Tensor:
        return torch.view_as_real(t.resolve_conj()) if t.is_complex() else torch.view_as_complex(t.contiguous())

    def primal(self, env: dict[int, Tensor]) -> None:
        env[self.outs[0]] = self._view(env[self.inputs[0]])

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return self._view(t[0])

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        return [self._view(single(u))]


@rule("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default", complex_too=True)
class Expand(_OfSelf):
    """Repeats along dimensions of size one, without a copy."""

    kernel = "view"

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        shape = self.shape(self.outs[0])
        return align(t[0], len(shape)).expand(-1, *shape)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [unbroadcast(w, self.shape(self.inputs[0]))]


@rule("aten.copy.default")
class Copy(Expand):
    """What an assignment to a part of a tensor becomes: the source, in the shape and dtype of what it replaces."""

    kernel = "torch"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        self.inputs = tuple(slot for slot in self.inputs if slot == call.arguments["src"].slot)


@rule(
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.narrow.default",
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.tensor_split.sections",
    "aten.tensor_split.indices",
    "aten.unbind.int",
    complex_too=True,
)
class Parts(Instruction):
    """One or several blocks along a dimension."""

    kernel = "view"
    accumulates = True

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        shape = self.shape(self.inputs[0])
        self._dim = call.arguments["dim"] % len(shape) + 1
        self._index = list(self._blocks(shape[self._dim - 1]))

    def _blocks(self, size: int) -> list[slice | int]:
        arguments, target = self.call.arguments, self.call.target
        if "select" in target:
            return [arguments["index"] % size]
        if "unbind" in target:
            return list(range(size))
        if "slice" in target:
            start, end = arguments["start"], arguments["end"]
            return [slice(*slice(start, end, arguments["step"]).indices(size))]
        if "narrow" in target:
            start = arguments["start"] % size if arguments["start"] < 0 else arguments["start"]
            return [slice(start, start + arguments["length"])]
        blocks: list[slice | int] = []
        start = 0
        for slot in self.outs:
            stop = start + self.shape(slot)[self._dim - 1]
            blocks.append(slice(start, stop))
            start = stop
        return blocks

    def _part(self, t: Tensor, index: slice | int) -> Tensor:
        if isinstance(index, int):
            return t.select(self._dim, index)
        return t[(slice(None),) * self._dim + (index,)]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> list[Tensor]:
        return [self._part(t[0], index) for index in self._index]

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        whole = into[0]
        if whole is None:
            like = next(w for w in u if w is not None)
            whole = like.new_zeros(len(like), *self.shape(self.inputs[0]))
            if whole.ndim == 5 and like.ndim == 5:
                whole = _channels_last(whole)
        for w, index in zip(u, self._index, strict=True):
            if w is not None:
                self._part(whole, index).add_(w)
        return [whole]


def _channels_last(t: Tensor) -> Tensor:
    """Zeros ``[P, B, C, H, W]`` laid out with channels last."""
    return t.view(len(t), t.shape[1], *t.shape[3:], t.shape[2]).movedim(-1, 2)


@rule("aten.cat.default", "aten.concat.default", "aten.stack.default", complex_too=True)
class Concatenate(Instruction):
    """Blocks put side by side along a dimension; blocks that do not depend on x have zero tangents."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._stack = "stack" in call.target
        self._tensors = [ref.slot for ref in call.arguments["tensors"]]
        ndim = len(self.shape(self._tensors[0])) + self._stack
        self._dim = call.arguments["dim"] % ndim + 1

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        given = dict(zip(self.inputs, t, strict=True))
        blocks = []
        for slot in self._tensors:
            block = given[slot] if slot in given else t[0].new_zeros(len(t[0]), *self.shape(slot))
            blocks.append(block)
        if self._stack:
            return torch.stack(blocks, self._dim)
        # Folded to four dimensions, torch keeps channels last.
        if blocks[0].ndim == 5 and self._dim > 1:
            folded = torch.cat([block.flatten(0, 1) for block in blocks], self._dim - 1)
            return folded.unflatten(0, (len(t[0]), -1))
        return torch.cat(blocks, self._dim)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        if self._stack:
            parts = w.unbind(self._dim)
        else:
            parts = w.split([self.shape(slot)[self._dim - 1] for slot in self._tensors], self._dim)
        total: dict[int, Tensor] = {}
        for slot, part in zip(self._tensors, parts, strict=True):
            if slot in self.inputs:
                total[slot] = total[slot] + part if slot in total else part
        return [total[slot] for slot in self.inputs]


@rule("aten.pad.default", "aten.constant_pad_nd.default")
def pad(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction:
    """Padding with a constant, or any other."""
    constant = call.arguments.get("mode", "constant") == "constant"
    return (ConstantPad if constant else Resample)(call, active, metas)


class ConstantPad(Instruction):
    """Padding with a constant: the tangent of it is padding with zero."""

    def _pad(self, t: Tensor, widths: Sequence[int]) -> Tensor:
        # Folded to four dimensions, torch keeps channels last.
        if t.ndim == 5 and len(widths) <= 6:
            return F.pad(t.flatten(0, 1), widths).unflatten(0, (len(t), -1))
        return F.pad(t, widths)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return self._pad(t[0], self.call.arguments["pad"])

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [self._pad(w, [-width for width in self.call.arguments["pad"]])]


@rule("aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout", "aten.type_as.default", complex_too=True)
class Convert(_OfSelf):
    """Another dtype."""

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return t[0].to(self.metas[self.outs[0]].dtype)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [convert(w, self.metas[self.inputs[0]].dtype)]


@rule(
    "aten.index_select.default",
    "aten.index.Tensor",
    "aten.gather.default",
    "aten.tril.default",
    "aten.triu.default",
    "aten.diagonal.default",
    "aten.diag_embed.default",
    "aten.cumsum.default",
    "aten.unfold.default",
    "aten.im2col.default",
    "aten.col2im.default",
    "aten.masked_fill.Scalar",
    "aten.masked_fill.Tensor",
    "aten.index_fill.int_Scalar",
    "aten.index_copy.default",
    "aten.index_add.default",
    "aten.index_put.default",
    "aten.masked_scatter.default",
    "aten.scatter.src",
    "aten.scatter.value",
    "aten.scatter_add.default",
)
class Linear(Fallback):
    """An operator that is linear in its tensors of numbers together: its tangent is the operator on each probe.

    Numbers that do not depend on x are replaced by zero.
    """

    kernel = "torch vmap"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        Instruction.__init__(self, call, active, metas)
        self._smooth, self._name = [0], call.target
        value = call.arguments.get("value", 0)
        # A constant fill has the tangent 0, which is what a fill with 0 gives.
        self._replaced: dict[str, Any] = {} if isinstance(value, Ref) or value in (0, None) else {"value": 0}

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        fixed = {slot: value for slot, value in self._values.items() if slot not in self.inputs}
        self._zeroed = {s: torch.zeros_like(v) if self.metas[s].smooth else v for s, v in fixed.items()}

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        def apply(*v: Tensor) -> Tensor:
            env = {**self._zeroed, **dict(zip(self.inputs, v, strict=True))}
            return self.call.evaluate(env, **self._replaced)

        return torch.func.vmap(apply)(*t)


rule(
    "aten.real.default",
    "aten.imag.default",
    "aten.complex.default",
    *(f"aten.fft_{name}{n}.default" for name in ("fft", "ifft", "rfft", "irfft") for n in ("", "2", "n")),
    "aten.fft_fftshift.default",
    "aten.fft_ifftshift.default",
    complex_too=True,
)(Linear)


@rule(
    *(f"aten.new_{kind}.default" for kind in ("zeros", "ones", "empty", "full")),
    *(f"aten.{kind}_like.default" for kind in ("zeros", "ones", "empty", "full")),
)
def shape_alone(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction:
    """What takes a shape and a dtype from a tensor, but no values."""
    return Inactive(call, set(), metas)


@rule("aten.fill.Scalar", "aten.fill.Tensor")
def fill(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """What an assignment of a constant to a part of a tensor becomes."""
    return shape_alone(call, active, metas) if only_active(call, active, "self") else None
