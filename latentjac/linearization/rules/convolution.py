"""Convolutions with weights that do not depend on x."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from latentjac.linearization.instruction import Instruction, Tensor, only_active, rule
from latentjac.linearization.precision import packs
from latentjac.linearization.trace import Call, Meta, Ref

_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


# Images in a batch that weights are laid out for: a common chunk of probes.
_PACKED_FOR = 8


def _packable(weight: Tensor, x_ndim: int) -> bool:
    """Whether oneDNN takes weights in its own blocked layout, prepared once."""
    return x_ndim == 4 and weight.device.type == "cpu" and packs(weight.dtype)


class _Kernel:
    """A convolution without bias with fixed weights, in the fastest form there is for them."""

    def __init__(
        self,
        weight: Tensor,
        image: tuple[int, ...],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> None:
        self._settings = (stride, padding, dilation, groups)
        self.packed = _packable(weight, weight.ndim)
        self._function = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
        if self.packed:
            # Without a size, oneDNN may choose a layout that costs 4 times the time (192 channels, 8 x 8).
            size = [_PACKED_FOR, weight.shape[1] * groups, *image]
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, dilation, groups, size)
        elif weight.ndim == 4:
            self._weight = weight.contiguous(memory_format=torch.channels_last)
        else:
            self._weight = weight

    def __call__(self, x: Tensor, into: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The convolution of x ``[N, C, ...]``, added to ``into`` if that is given, else to the bias."""
        stride, padding, dilation, groups = self._settings
        if not self.packed:
            y = self._function(x, self._weight, bias, stride, padding, dilation, groups)
            return y if into is None else into.add_(y)
        x = x.contiguous(memory_format=torch.channels_last)
        if into is not None and not _dense(into):
            return into.add_(self(x))
        if into is None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self._weight, bias, padding, stride, dilation, groups, "none", [], ""
            )
        # oneDNN adds to what is there itself, which saves writing and reading the product.
        torch.ops.mkldnn._convolution_pointwise_(
            into, x, self._weight, None, padding, stride, dilation, groups, "add", 1.0, None, [], None
        )
        return into


def _dense(t: Tensor) -> bool:
    """Whether oneDNN can write to t: channels last without gaps."""
    return t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last)


class Convolution(Instruction):
    """``y = conv(x, w) + b``, also with a tensor added to it (a residual connection)."""

    accumulates = True

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._ndim = len(self.shape(self.inputs[0])) - 2
        self._w = call.arguments["weight"].slot
        self._stride, self._dilation = (self._each(call.arguments[n]) for n in ("stride", "dilation"))
        self._padding = self._paddings(call.arguments["padding"])
        self._groups = call.arguments["groups"]
        self._source: Tensor | None = None
        self.addend: int | None = None

    @property
    def kernel(self) -> str:
        """Which convolution runs forward and backward."""
        name = "onednn" if self._source is not None and self._forward.packed else "torch"
        transposed = "flipped" if self._source is not None and self._backward is not None else "transposed"
        return f"{name} conv / {transposed}" + (" += residual" if self.addend is not None else "")

    def add_to(self, total: Instruction, addend: int) -> None:
        """Fuse a sum with another value."""
        self.calls = [*self.calls, *total.calls]
        self.inputs, self.outs, self.addend = (*self.inputs, addend), total.outs, addend

    def _each(self, value: Any) -> list[int]:
        value = [value] if isinstance(value, int) else list(value)
        return value * self._ndim if len(value) == 1 else value

    def _spans(self) -> list[int]:
        return [d * (k - 1) for d, k in zip(self._dilation, self.shape(self._w)[2:], strict=True)]

    def _paddings(self, value: Any) -> list[int]:
        if not isinstance(value, str):
            return self._each(value)
        return [0] * self._ndim if value == "valid" else [span // 2 for span in self._spans()]

    def _set_weight(self, weight: Tensor) -> None:
        groups = self._groups
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self._forward = _Kernel(
            weight, self.shape(self.inputs[0])[2:], self._stride, self._padding, self._dilation, groups
        )
        # With stride 1 the transpose is a convolution too, with flipped weights.
        padding = [span - p for span, p in zip(self._spans(), self._padding, strict=True)]
        self._backward: _Kernel | None = None
        self._plain: Tensor | None = None
        if all(s == 1 for s in self._stride) and min(padding) >= 0:
            flipped = weight.flip(list(range(2, weight.ndim))).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
            self._backward = _Kernel(
                flipped.contiguous(), self.shape(self.outs[0])[2:], self._stride, padding, self._dilation, groups
            )
        else:
            self._plain = weight  # it may be a copy, in another order or type

    def primal(self, env: dict[int, Tensor]) -> None:
        if env[self._w] is not self._source:
            self._source = env[self._w]
            self._set_weight(self.kept(env, self._w))
        x, bias = env[self.inputs[0]], self.call.arguments["bias"]
        bias = env[bias.slot] if isinstance(bias, Ref) else None
        exact = x.dtype == self.metas[self.inputs[0]].dtype
        y = self._forward(x, bias=bias) if exact else self.call.evaluate(env)
        env[self.outs[0]] = y if self.addend is None else y + env[self.addend]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        into = None
        if self.addend is not None:
            into = t[1].flatten(0, 1)
            if not own[1]:
                into = into.clone(memory_format=torch.channels_last if into.ndim == 4 else torch.contiguous_format)
        return self._forward(t[0].flatten(0, 1), into).unflatten(0, (len(t[0]), -1))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        folded = u[0].flatten(0, 1)
        target = into[0].flatten(0, 1) if into[0] is not None and _dense(into[0].flatten(0, 1)) else None
        if self._backward is not None:
            out = self._backward(folded, target)
        else:
            out = self._transposed(folded)
        first = into[0] if target is not None and out is target else out.unflatten(0, (len(u[0]), -1))
        return [first] if self.addend is None else [first, u[0]]

    def _transposed(self, u: Tensor) -> Tensor:
        sizes = zip(
            self.shape(self.inputs[0])[2:], u.shape[2:], self._stride, self._padding, self._spans(), strict=True
        )
        missing = [size - ((out - 1) * s - 2 * p + span + 1) for size, out, s, p, span in sizes]
        transpose = _TRANSPOSED[self._ndim]
        return transpose(u, self._plain, None, self._stride, self._padding, missing, self._groups, self._dilation)

    def flops(self) -> int:
        filters = self.metas[self._w]
        return 2 * self.metas[self.outs[0]].numel * (filters.numel // filters.shape[0])


@rule(*(f"aten.conv{n}d.{kind}" for n in (1, 2, 3) for kind in ("default", "padding")))
def convolution(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Convolution of a batch with weights that do not depend on x."""
    kernel = metas[call.arguments["weight"].slot].shape[2:]
    uneven = call.arguments["padding"] == "same" and any(k % 2 == 0 for k in kernel)
    unbatched = len(metas[call.arguments["input"].slot].shape) != len(kernel) + 2
    if uneven or unbatched or not only_active(call, active, "input"):
        return None
    return Convolution(call, active, metas)
