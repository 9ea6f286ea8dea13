"""Interpolation, averages over windows and padding by copies: linear operators on each image alone."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentjac.linearization.instruction import Instruction, Tensor, rule, single


@rule(
    *(
        f"aten.upsample_{kind}.{o}"
        for kind in (
            "nearest1d",
            "nearest2d",
            "nearest3d",
            "_nearest_exact1d",
            "_nearest_exact2d",
            "linear1d",
            "bilinear2d",
            "bicubic2d",
            "trilinear3d",
            "_bilinear2d_aa",
            "_bicubic2d_aa",
        )
        for o in ("default", "vec")
    ),
    "aten._upsample_nearest_exact2d.vec",
    "aten._upsample_bilinear2d_aa.vec",
    "aten.avg_pool1d.default",
    "aten.avg_pool2d.default",
    "aten.avg_pool3d.default",
    "aten.adaptive_avg_pool1d.default",
    "aten.adaptive_avg_pool2d.default",
    "aten.adaptive_avg_pool3d.default",
)
class Resample(Instruction):
    """The operator itself, on probes and points folded into one batch; transposed by autograd's own rule."""

    def _apply(self, folded: Tensor) -> Tensor:
        return self.call.evaluate({self.inputs[0]: folded})

    def _folded(self, t: Tensor) -> Tensor:
        folded = t.flatten(0, 1)
        return folded.contiguous(memory_format=torch.channels_last) if folded.ndim == 4 else folded

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        return self._apply(self._folded(t[0])).unflatten(0, (len(t[0]), -1))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        shape = self.shape(self.inputs[0])
        folded = self._folded(w)
        doubled = "nearest" in self.call.target and w.shape[3:] == tuple(2 * size for size in shape[2:])
        if doubled and folded.ndim == 4:
            # Each pixel became a square of four.
            return [torch.nn.functional.avg_pool2d(folded, 2, divisor_override=1).unflatten(0, (len(w), -1))]
        with torch.enable_grad():
            zeros = folded.new_zeros(len(folded), *shape[1:])
            if zeros.ndim == 4:
                zeros = zeros.contiguous(memory_format=torch.channels_last)
            zeros.requires_grad_()
            (out,) = torch.autograd.grad(self._apply(zeros), zeros, folded)
        return [out.unflatten(0, (len(w), -1))]

    def flops(self) -> int:
        return max(self.metas[self.outs[0]].numel, self.metas[self.inputs[0]].numel)
