"""Normalizations, together with whatever acts on each entry alone right after them."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from latentjac.kernels import ACTIVATIONS, norm_act_cotangent, norm_act_primal, norm_act_tangent
from latentjac.linearization.instruction import Instruction, Tensor, only_active, rule, single
from latentjac.linearization.precision import computed_in
from latentjac.linearization.rules.activations import Diagonal
from latentjac.linearization.trace import Call, Meta, Ref


class Norm(Instruction):
    """Group, instance, layer or RMS norm, and a chain of diagonal instructions fused behind it.

    With values as ``[N, S, C]`` (channels last) and statistics per group of S x C/G values, both directions
    need only ``xhat`` and ``a = gamma * rstd * (derivatives behind it)``, shared by all probes.
    """

    accumulates = True

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self.rms = "rms_norm" in call.target
        self._behind: list[Instruction] = []
        shape = self.shape(self.inputs[0])
        if "group_norm" in call.target or "instance_norm" in call.target:
            self._groups = call.arguments["num_groups"] if "group_norm" in call.target else shape[1]
            self._sizes = (shape[0], math.prod(shape[2:]), shape[1])
            self._channels_first = len(shape) > 2
        else:
            width = math.prod(call.arguments["normalized_shape"])
            self._groups, self._channels_first = 1, False
            self._sizes = (metas[self.inputs[0]].numel // width, 1, width)

    @property
    def kernel(self) -> str:
        """What computes it."""
        behind = " + ".join(step.call.target.split(".")[1] for step in self._behind)
        return "norm_act" + f" ({behind})" * bool(behind)

    def absorb(self, step: Instruction) -> None:
        """Fuse an instruction that acts on each entry of the result alone."""
        self._behind.append(step)
        self.calls = [*self.calls, *step.calls]
        self.outs = step.outs

    def _lay_out(self, t: Tensor, *probes: int) -> Tensor:
        """``[*probes, N, S, C]`` of a value or tangent, without a copy if channels are last in memory."""
        if self._channels_first:
            t = t.flatten(2 + len(probes)).transpose(-1, -2)
        return t.reshape(*probes, *self._sizes)

    def _restore(self, t: Tensor, *probes: int) -> Tensor:
        shape = self.shape(self.inputs[0])
        if self._channels_first:
            return t.transpose(-1, -2).reshape(*probes, *shape)
        return t.reshape(*probes, *shape)

    def primal(self, env: dict[int, Tensor]) -> None:
        arguments = self.call.arguments
        x = self._lay_out(env[self.inputs[0]])
        gamma, beta = (
            env[v.slot].reshape(-1) if isinstance(v := arguments.get(k), Ref) else None for k in ("weight", "bias")
        )
        eps = arguments["eps"] if arguments["eps"] is not None else torch.finfo(x.dtype).eps
        name, rest = self._activation()
        y, xhat, a = norm_act_primal(x, gamma, beta, groups=self._groups, eps=eps, activation=name, rms=self.rms)
        assert y is not None
        env[self.calls[0].outs[0] if rest is self._behind else self._behind[0].outs[0]] = self._restore(y)
        for step in rest:
            step.primal(env)
            if isinstance(step, Diagonal) and step.factor is not None:
                a = a * self._lay_out(step.factor.expand(self.shape(self.outs[0])))
        self._xhat, self._a = xhat, a

    def _activation(self) -> tuple[str, list[Instruction]]:
        """The activation that the kernel takes along, and the steps behind it."""
        if not self._behind:
            return "identity", self._behind
        call = self._behind[0].call
        name = call.target.split(".")[1]
        if name == "gelu" and call.arguments["approximate"] == "tanh":
            name = "gelu_tanh"
        return (name, self._behind[1:]) if name in ACTIVATIONS else ("identity", self._behind)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        laid, own_laid = self._widened(t[0], own[0])
        out = laid if own_laid and laid.is_contiguous() else None
        y = norm_act_tangent(laid, self._a, self._xhat, groups=self._groups, rms=self.rms, out=out)
        return self._restore(y.to(t[0].dtype), len(laid))

    def _widened(self, t: Tensor, own: bool) -> tuple[Tensor, bool]:
        """A tangent laid out in the type of the kernel, and whether it may be overwritten."""
        laid = self._lay_out(t, len(t))
        wide = laid.to(computed_in(laid.dtype, laid.device))
        return wide, own or wide is not laid

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        laid, own_laid = self._widened(w, own[0])
        settings: dict[str, Any] = {"groups": self._groups, "rms": self.rms}
        if into[0] is not None and laid.dtype == w.dtype:
            target = self._lay_out(into[0], len(laid))
            if target.is_contiguous() and target.data_ptr() == into[0].data_ptr():
                norm_act_cotangent(laid, self._a, self._xhat, out=target, accumulate=True, **settings)
                return [into[0]]
        out = laid if own_laid and laid.is_contiguous() else None
        x = norm_act_cotangent(laid, self._a, self._xhat, out=out, **settings)
        return [self._restore(x.to(w.dtype), len(laid))]

    def flops(self) -> int:
        return 6 * self.metas[self.inputs[0]].numel


@rule("aten.group_norm.default", "aten.layer_norm.default", "aten.rms_norm.default")
def norm(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Norms whose weights do not depend on x."""
    return Norm(call, active, metas) if only_active(call, active, "input") else None


@rule("aten.instance_norm.default")
def instance_norm(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Instance norm: a group norm with a group for each channel, or a scale where its statistics are fixed."""
    if not only_active(call, active, "input"):
        return None
    return (Norm if call.arguments["use_input_stats"] else _FixedNorm)(call, active, metas)


@rule("aten.batch_norm.default")
def batch_norm(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Batch norm with fixed statistics: a scale for each channel."""
    return _FixedNorm(call, active, metas) if not call.arguments["training"] else None


class _FixedNorm(Diagonal):
    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        weight, variance = (
            env[v.slot] if isinstance(v := self.call.arguments[k], Ref) else 1.0 for k in ("weight", "running_var")
        )
        scale = weight / torch.sqrt(variance + self.call.arguments["eps"])
        self.factor = scale.reshape(-1, *[1] * (len(self.shape(self.outs[0])) - 2))
