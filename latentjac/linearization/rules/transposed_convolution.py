"""Transposed convolutions with weights that do not depend on x."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from latentjac.linearization.instruction import Instruction, Tensor, only_active, rule, single
from latentjac.linearization.trace import Call, Meta

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class TransposedConvolution(Instruction):
    """``y = conv_transpose(x, w) + b``; its transpose is the convolution with the same weights."""

    kernel = "torch conv_transpose / conv"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._w: int = call.arguments["weight"].slot
        self._ndim = len(self.shape(self._w)) - 2
        names = ("stride", "padding", "output_padding", "dilation")
        self._stride, self._padding, self._output_padding, self._dilation = (call.arguments[n] for n in names)
        self._groups: int = call.arguments["groups"]

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._weight = _laid_out(self.kept(env, self._w))

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        y = _TRANSPOSED[self._ndim](
            _laid_out(t[0].flatten(0, 1)),
            self._weight,
            None,
            self._stride,
            self._padding,
            self._output_padding,
            self._groups,
            self._dilation,
        )
        return y.unflatten(0, (len(t[0]), -1))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        out = _CONVOLUTIONS[self._ndim](
            _laid_out(w.flatten(0, 1)),
            self._weight,
            None,
            self._stride,
            self._padding,
            self._dilation,
            self._groups,
        )
        # A wide output padding leaves room for more windows than x has entries.
        for d, size in enumerate(self.shape(self.inputs[0])[2:]):
            out = out.narrow(d + 2, 0, size)
        return [out.unflatten(0, (len(w), -1))]

    def flops(self) -> int:
        filters = self.metas[self._w]
        return 2 * self.metas[self.inputs[0]].numel * (filters.numel // filters.shape[0])


def _laid_out(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


@rule("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def transposed_convolution(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Transposed convolution of a batch with weights that do not depend on x."""
    batched = len(metas[call.arguments["input"].slot].shape) == len(metas[call.arguments["weight"].slot].shape)
    return TransposedConvolution(call, active, metas) if batched and only_active(call, active, "input") else None
