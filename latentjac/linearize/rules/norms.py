"""Normalizations, together with whatever acts on each entry alone right after them."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from latentjac.linearize.instruction import Instruction, Tensor, only_active, rule
from latentjac.linearize.rules.activations import Diagonal
from latentjac.linearize.trace import Call, Meta, Ref


class Norm(Instruction):
    """Group, layer or RMS norm, and a chain of diagonal instructions fused behind it.

    With values as ``[N, S, C]`` (channels last) and statistics per group of S x C/G values, both directions
    need only ``xhat`` and ``a = gamma * rstd * (derivatives behind it)``, shared by all probes.
    """

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self.rms = "rms_norm" in call.target
        self._behind: list[Instruction] = []
        shape = self.shape(self.inputs[0])
        if "group_norm" in call.target:
            self._groups = call.arguments["num_groups"]
            self._sizes = (shape[0], math.prod(shape[2:]), shape[1])
            self._channels_first = len(shape) > 2
        else:
            width = math.prod(call.arguments["normalized_shape"])
            self._groups, self._channels_first = 1, False
            self._sizes = (metas[self.inputs[0]].numel // width, 1, width)

    @property
    def kernel(self) -> str:
        """What computes it."""
        return "torch norm" + " + diagonal" * bool(self._behind)

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
        n, s, c = self._sizes
        grouped = x.reshape(n, s, self._groups, c // self._groups)
        eps = arguments["eps"] if arguments["eps"] is not None else torch.finfo(x.dtype).eps
        mean = 0.0 if self.rms else grouped.mean((1, 3), keepdim=True)
        centred = grouped - mean
        rstd = (centred.square().mean((1, 3), keepdim=True) + eps).rsqrt()
        self._xhat = (centred * rstd).reshape(n, s, c)
        a = rstd.expand(n, 1, self._groups, c // self._groups).reshape(n, 1, c)
        gamma, beta = (env[v.slot] if isinstance(v := arguments.get(k), Ref) else None for k in ("weight", "bias"))
        y = self._xhat
        if gamma is not None:
            y, a = y * gamma.reshape(c), a * gamma.reshape(c)
        if beta is not None:
            y = y + beta.reshape(c)
        env[self.call.outs[0]] = self._restore(y)
        for step in self._behind:
            step.primal(env)
            if isinstance(step, Diagonal) and step.factor is not None:
                a = a * self._lay_out(step.factor.expand(self.shape(self.outs[0])))
        self._a = a.expand(n, s, c).contiguous()

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        laid = self._lay_out(t[0], len(t[0]))
        return self._restore(self._project(laid).mul_(self._a), len(t[0]))

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        laid = self._lay_out(u[0], len(u[0]))
        return [self._restore(self._project(laid * self._a), len(u[0]))]

    def _project(self, t: Tensor) -> Tensor:
        """``t - mean t - xhat mean(xhat t)``, the symmetric part of the Jacobian."""
        n, s, c = self._sizes
        grouped = t.reshape(len(t), n, s, self._groups, c // self._groups)
        xhat = self._xhat.reshape(grouped.shape[1:])
        along = (grouped * xhat).mean((2, 4), keepdim=True)
        out = grouped - xhat * along
        if not self.rms:
            out -= grouped.mean((2, 4), keepdim=True)
        return out.reshape(len(t), n, s, c)

    def flops(self) -> int:
        return 6 * self.metas[self.inputs[0]].numel


@rule("aten.group_norm.default", "aten.layer_norm.default", "aten.rms_norm.default")
def norm(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Norms whose weights do not depend on x."""
    return Norm(call, active, metas) if only_active(call, active, "input") else None


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
