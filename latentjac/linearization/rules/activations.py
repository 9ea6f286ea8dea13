"""Operators that act on each entry alone: their Jacobian is a diagonal, kept by the primal."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentjac.linearization.instruction import Instruction, Tensor, convert, only_active, rule, single
from latentjac.linearization.trace import Call, Meta

_POINTWISE = (
    "silu gelu relu relu6 elu selu celu leaky_relu sigmoid log_sigmoid tanh mish hardswish hardsigmoid hardtanh "
    "softplus softsign exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square abs sin cos tan asin acos "
    "atan sinh cosh asinh acosh atanh erf erfc logit clamp clamp_min clamp_max hardshrink softshrink tanhshrink "
    "sinc special_expit sign floor ceil round trunc nan_to_num"
).split()

# What networks are full of, without the autograd engine, whose work is best not recorded as a CUDA graph.
_DERIVATIVES = {
    "aten.silu.default": torch.ops.aten.silu_backward.default,
    "aten.gelu.default": torch.ops.aten.gelu_backward.default,
}


class Diagonal(Instruction):
    """``dy = d * dx`` with ``d`` of the shape of y; also what chains of such operators fuse to."""

    factor: Tensor | None = None

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        v = t[0].to(self.metas[self.outs[0]].dtype)
        return _scale(v, self.factor, own[0] or v is not t[0])

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        factor = self.factor.conj() if self.factor is not None and self.factor.is_complex() else self.factor
        return [convert(_scale(w, factor, own[0]), self.metas[self.inputs[0]].dtype)]

    def flops(self) -> int:
        return self.metas[self.outs[0]].numel


def _scale(t: Tensor, factor: Tensor | None, own: bool) -> Tensor:
    if factor is None:
        return t
    if factor.ndim and not t.is_complex():  # a single number is taken as it is
        factor = factor.to(t.dtype)
    return t.mul_(factor) if own else t * factor


@rule(
    *(f"aten.{name}.default" for name in _POINTWISE),
    *(f"aten.pow.Tensor_{kind}" for kind in ("Scalar",)),
    "aten.special_erf.default",
)
class Pointwise(Diagonal):
    """An activation or another function of each entry alone."""

    def primal(self, env: dict[int, Tensor]) -> None:
        derivative = _DERIVATIVES.get(self.call.target)
        if derivative is not None:
            super().primal(env)
            x = env[self.inputs[0]]
            options = {key: value for key, value in self.call.arguments.items() if key == "approximate"}
            self.factor = derivative(torch.ones_like(x), x, **options)
            return
        # One derivative for all others: autograd's own, of the sum over entries.
        with torch.enable_grad():
            x = env[self.inputs[0]].detach().requires_grad_()
            y = self.call.evaluate({**env, self.inputs[0]: x})
            (factor,) = torch.autograd.grad(y.sum(), x)
        self.factor = factor
        env[self.outs[0]] = y.detach()


@rule("aten.prelu.default")
def prelu(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """ReLU with learned slopes, which do not depend on x."""
    return Pointwise(call, active, metas) if only_active(call, active, "self") else None
