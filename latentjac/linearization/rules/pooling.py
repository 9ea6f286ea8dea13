"""Maxima over windows: the primal keeps where they are, and the passes pick and put back those entries."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from latentjac.linearization.instruction import Instruction, Tensor, rule
from latentjac.linearization.trace import Call, Meta


@rule(
    *(f"aten.max_pool{n}d.default" for n in (1, 2, 3)),
    *(f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)),
    *(f"aten.adaptive_max_pool{n}d.default" for n in (1, 2, 3)),
)
class MaxPool(Instruction):
    """``y_j = x[where_j]``, with places counted over the spatial dimensions of each channel."""

    kernel = "gather / scatter"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        match = re.match(r"aten\.(adaptive_)?max_pool(\d)d", call.target)
        assert match is not None
        self._adaptive, self._spatial = bool(match[1]), int(match[2])

    def primal(self, env: dict[int, Tensor]) -> None:
        if self._adaptive:
            y, places = self.call.evaluate(env)
        else:
            name = f"max_pool{self._spatial}d_with_indices"
            arguments = [value for key, value in self.call.arguments.items() if key != "self"]
            y, places = getattr(torch.ops.aten, name)(env[self.inputs[0]], *arguments)
        self._places = places.flatten(-self._spatial)
        self.store(env, (y, places) if self.call.multiple else y)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Sequence[Tensor | None]:
        entries = t[0].flatten(-self._spatial)
        picked = entries.gather(-1, self._places.expand(len(entries), *self._places.shape))
        return [picked.reshape(len(entries), *self.shape(self.outs[0])), *[None] * (len(self.outs) - 1)]

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        assert u[0] is not None
        probes, shape = len(u[0]), self.shape(self.inputs[0])
        entries = u[0].new_zeros(probes, *shape).flatten(-self._spatial)
        # Windows may overlap, so one entry may be the maximum of several.
        entries.scatter_add_(-1, self._places.expand(probes, *self._places.shape), u[0].flatten(-self._spatial))
        return [entries.reshape(probes, *shape)]

    def flops(self) -> int:
        return self.metas[self.outs[0]].numel
