"""Softmax attention: one primal shared by all probes."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from latentjac.kernels import attention_cotangent, attention_primal, attention_tangent, rowwise_product
from latentjac.linearize.instruction import Instruction, Tensor, only_active, rule
from latentjac.linearize.precision import allows_tf32, computed_in
from latentjac.linearize.trace import Call, Meta, Ref, TraceError

# Covariances of all queries, both ways, are kept up to this size.
_KEPT_BYTES = 64 * 2**20


class Attention(Instruction):
    """``O = P V``, ``P = softmax(scale Q K^T + mask)``.

    The part of dQ is a small matrix for each query, ``dO_i = dQ_i C_i`` with
    ``C_i = scale (sum_j P_ij k_j v_j^T - kbar_i o_i^T)``, the covariance of keys and values under P. With many keys the
    primal computes those matrices, and the part of dQ costs no more than a projection.
    """

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._q, self._k, self._v = (call.arguments[name].slot for name in ("query", "key", "value"))
        (*lead, self._n, self._d), (*_, self._m, _), (*_, self._e) = map(self.shape, (self._q, self._k, self._v))
        self._lead = (math.prod(lead[:-1]), lead[-1])
        size = 2 * math.prod(lead) * self._n * self._d * self._e * metas[self._q].dtype.itemsize
        # By key, the part of dQ takes m d more products, which run 3 times as fast as those by query.
        self._covariance = self._q in self.inputs and self._m >= 4 * self._e and size <= _KEPT_BYTES
        self._c: Tensor | None = None
        self._c_transposed: Tensor | None = None
        self._scored = self._k in self.inputs or (self._q in self.inputs and not self._covariance)

    @property
    def kernel(self) -> str:
        """What computes it."""
        return "attention" + (", per-query covariance" if self._covariance else "")

    def copy(self, memo: dict[int, Instruction]) -> Instruction:
        other = super().copy(memo)
        assert isinstance(other, Attention)
        other._c = other._c_transposed = None  # written to in place
        return other

    def _fold(self, t: Tensor, *probes: int) -> Tensor:
        return t.reshape(*probes, *self._lead, *t.shape[-2:])

    def primal(self, env: dict[int, Tensor]) -> None:
        kind = computed_in(self.metas[self._q].dtype, env[self._q].device)
        q, k, v = (self._fold(env[slot].to(kind)) for slot in (self._q, self._k, self._v))
        arguments = self.call.arguments
        self._kept = attention_primal(
            q,
            k,
            v,
            scale=arguments["scale"],
            bias=self._bias(env),
            causal=arguments["is_causal"],
            allow_tf32=allows_tf32(q.device),
        )
        if self._covariance:
            self._keep_covariance(q)
        exact = q.dtype == env[self._q].dtype
        env[self.outs[0]] = self._kept.o.reshape(self.shape(self.outs[0])) if exact else self.call.evaluate(env)

    def _keep_covariance(self, q: Tensor) -> None:
        # C_i is what unit vectors in place of dQ_i give.
        units = torch.eye(self._d, dtype=q.dtype, device=q.device).reshape(self._d, 1, 1, 1, self._d)
        batch, heads = self._lead
        if self._c is None:
            self._c = q.new_empty(batch, self._n, heads, self._d, self._e)
            self._c_transposed = q.new_empty(batch, self._n, heads, self._e, self._d)
        attention_tangent(self._kept, units.expand(-1, *q.shape), out=self._c.permute(3, 0, 2, 1, 4))
        self._c_transposed.copy_(self._c.mT)

    def _bias(self, env: dict[int, Tensor]) -> Tensor | None:
        mask = self.call.arguments["attn_mask"]
        if not isinstance(mask, Ref):
            return None
        allowed, dtype = env[mask.slot], self.metas[self._q].dtype
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        if allowed.dtype == torch.bool:
            allowed = torch.zeros_like(allowed, dtype=kind).masked_fill_(~allowed, -math.inf)
        allowed = allowed.to(kind)
        lead = self.shape(self._q)[:-2]
        return allowed if len(lead) == 2 else self._fold(allowed.expand(*lead, self._n, self._m))

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        probes = len(t[0])
        kind = self._kept.q.dtype
        given = {slot: self._fold(v.to(kind), probes) for slot, v in zip(self.inputs, t, strict=True)}
        out = rowwise_product(self._c, given.pop(self._q)) if self._covariance else None
        if given:
            dq, dk, dv = (given.get(slot) for slot in (self._q, self._k, self._v))
            out = attention_tangent(self._kept, dq, dk, dv, out=out, accumulate=out is not None)
        return out.reshape(probes, *self.shape(self.outs[0])).to(t[0].dtype)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        probes = len(u[0])
        folded = self._fold(u[0].to(self._kept.q.dtype), probes)
        slots = (self._q, self._k, self._v)
        out = self._buffers(folded)
        parts = dict(zip(slots, out, strict=True))
        wanted = tuple(slot in self.inputs and not (self._covariance and slot == self._q) for slot in slots)
        if any(wanted):
            parts = dict(zip(slots, attention_cotangent(self._kept, folded, wanted=wanted, out=out), strict=True))
        if self._covariance:
            parts[self._q] = rowwise_product(self._c_transposed, folded, out=out[0])
        return [parts[slot].reshape(probes, *self.shape(slot)).to(u[0].dtype) for slot in self.inputs]

    def _buffers(self, u: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Room for the three cotangents side by side, as a projection to all three wants them in one piece."""
        if len(self.inputs) < 3 or not (self._n == self._m and self._d == self._e):
            return None, None, None
        batch, heads = self._lead
        joint = u.new_empty(len(u), batch, self._n, 3, heads, self._d)
        return tuple(part.transpose(2, 3) for part in joint.unbind(3))

    def flops(self) -> int:
        pairs = 2 * math.prod(self._lead) * self._n * self._m
        total = self._v in self.inputs and pairs * self._e
        if self._covariance:
            total += 2 * math.prod(self._lead) * self._n * self._d * self._e
        elif self._q in self.inputs:
            total += pairs * self._d
        if self._k in self.inputs:
            total += pairs * self._d
        return int(total + (pairs * self._e if self._scored else 0))


@rule("aten.scaled_dot_product_attention.default")
def attention(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Attention whose mask does not depend on x."""
    if call.arguments["dropout_p"] > 0:
        raise TraceError("attention drops out probabilities at random; put the network in eval mode")
    slots = [call.arguments[name].slot for name in ("query", "key", "value")]
    leads = {metas[slot].shape[:-2] for slot in slots}
    varying = [slot for slot in slots if slot in active]
    shared = len(set(varying)) < len(varying)
    if shared or len(leads) > 1 or () in leads or not only_active(call, active, "query", "key", "value"):
        return None
    return Attention(call, active, metas)


@rule("aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten._log_softmax.default")
class Softmax(Instruction):
    """``dy = y o (t - sum(y o t))``, and without the outer y for the logarithm."""

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._log = "log" in self.call.target
        y = self.kept(env, self.outs[0])
        self._y = y.exp() if self._log else y
        self._dim = self.call.arguments["dim"] % y.ndim + 1

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        if self._log:
            return t[0] - (t[0] * self._y).sum(self._dim, keepdim=True)
        weighted = t[0] * self._y
        return weighted.addcmul_(weighted.sum(self._dim, keepdim=True), self._y, value=-1)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        if self._log:
            return [u[0] - self._y * u[0].sum(self._dim, keepdim=True)]
        return [self.tangent(u, own)]

    def flops(self) -> int:
        return 4 * self.metas[self.outs[0]].numel
