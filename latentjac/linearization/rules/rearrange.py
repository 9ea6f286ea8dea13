"""Operators that move or repeat entries without arithmetic, each with its transpose."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from latentjac.linearization.instruction import Instruction, Tensor, align, rule, single, unbroadcast
from latentjac.linearization.rules.shapes import Linear
from latentjac.linearization.trace import Call, Meta, Ref


@rule("aten.pixel_shuffle.default", "aten.pixel_unshuffle.default")
class PixelShuffle(Instruction):
    """Channels to squares of pixels, or back: each is the other's transpose."""

    def _move(self, t: Tensor, shuffle: bool) -> Tensor:
        factor = next(
            self.call.arguments[n] for n in ("upscale_factor", "downscale_factor") if n in self.call.arguments
        )
        # Folded to four dimensions, torch keeps channels last.
        folded = t.flatten(0, -4)
        moved = F.pixel_shuffle(folded, factor) if shuffle else F.pixel_unshuffle(folded, factor)
        return moved.unflatten(0, t.shape[:-3])

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return self._move(t[0], "unshuffle" not in self.call.target)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [self._move(w, "unshuffle" in self.call.target)]


@rule("aten.flip.default")
class Flip(Instruction):
    """Entries in the opposite order: its own transpose."""

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return t[0].flip([d % (t[0].ndim - 1) + 1 for d in self.call.arguments["dims"]])

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [self.tangent([w], own)]


@rule("aten.roll.default")
def roll(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction:
    """Entries moved on in a circle, along dimensions or, without them, over all entries."""
    return (Roll if call.arguments["dims"] else Linear)(call, active, metas)


class Roll(Instruction):
    """Entries moved on in a circle along some dimensions."""

    def _roll(self, t: Tensor, sign: int) -> Tensor:
        shifts, dims = self.call.arguments["shifts"], self.call.arguments["dims"]
        return t.roll([sign * shift for shift in shifts], [d % (t.ndim - 1) + 1 for d in dims])

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return self._roll(t[0], 1)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [self._roll(w, -1)]


@rule("aten.repeat.default", "aten.tile.default")
class Repeat(Instruction):
    """The whole tensor several times along each dimension; the transpose adds the copies up."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        shape, out = self.shape(self.inputs[0]), self.shape(self.outs[0])
        self._sizes = (1,) * (len(out) - len(shape)) + shape
        times = tuple(call.arguments["repeats" if "repeats" in call.arguments else "dims"])
        self._times = (1,) * (len(out) - len(times)) + times

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return align(t[0], len(self._sizes)).repeat(1, *self._times)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        split = [n for pair in zip(self._times, self._sizes, strict=True) for n in pair]
        total = w.reshape(len(w), *split).sum(list(range(1, 1 + len(split), 2)))
        return [total.reshape(len(total), *self.shape(self.inputs[0]))]


@rule("aten.repeat_interleave.self_int")
def repeat_interleave(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction:
    """Each entry several times, along a dimension or, without one, over all entries."""
    return (Linear if call.arguments["dim"] is None else RepeatEach)(call, active, metas)


class RepeatEach(Instruction):
    """Each entry several times along a dimension; the transpose adds the copies up."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._times: int = call.arguments["repeats"]
        self._dim: int = call.arguments["dim"] % len(self.shape(self.inputs[0])) + 1

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return t[0].repeat_interleave(self._times, self._dim)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        return [w.unflatten(self._dim, (-1, self._times)).sum(self._dim + 1)]


@rule("aten.slice_scatter.default", "aten.select_scatter.default")
class Replace(Instruction):
    """A tensor in which one block is replaced: what an assignment to a part of it becomes."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._whole: int = call.arguments["self"].slot
        self._block: int = call.arguments["src"].slot
        dim = call.arguments["dim"] % len(self.shape(self._whole))
        if "select" in call.target:
            index: int | slice = call.arguments["index"] % self.shape(self._whole)[dim]
        else:
            bounds = slice(*(call.arguments[name] for name in ("start", "end", "step")))
            index = slice(*bounds.indices(self.shape(self._whole)[dim]))
        self._index = (slice(None),) * (dim + 1) + (index,)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        given = dict(zip(self.inputs, t, strict=True))
        if self._whole in given:
            out = given[self._whole].clone()
        else:
            out = t[0].new_zeros(len(t[0]), *self.shape(self.outs[0]))
        out[self._index] = given.get(self._block, 0)
        return out

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        parts = []
        for slot in self.inputs:
            part = w[self._index]
            if slot == self._whole:
                part = w.clone()
                part[self._index] = 0
            parts.append(part)
        return parts


@rule(*(f"aten.where.{kind}" for kind in ("self", "ScalarOther", "ScalarSelf")))
class Where(Instruction):
    """One of two values at each entry, by a condition that has no derivative."""

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._condition = env[self.call.arguments["condition"].slot]

    def _slots(self) -> list[int | None]:
        values = (self.call.arguments[name] for name in ("self", "other"))
        return [v.slot if isinstance(v, Ref) and v.slot in self.inputs else None for v in values]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        shape, zero = self.shape(self.outs[0]), t[0].new_zeros(())
        given = dict(zip(self.inputs, t, strict=True))
        first, second = (zero if slot is None else align(given[slot], len(shape)) for slot in self._slots())
        return torch.where(self._condition, first, second).expand(-1, *shape)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        zero = w.new_zeros(())
        total: dict[int, Tensor] = {}
        for slot, chosen in zip(self._slots(), (self._condition, ~self._condition), strict=True):
            if slot is not None:
                part = unbroadcast(torch.where(chosen, w, zero), self.shape(slot))
                total[slot] = total[slot] + part if slot in total else part
        return [total[slot] for slot in self.inputs]
