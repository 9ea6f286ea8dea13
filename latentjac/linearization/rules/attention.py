"""Softmax attention: one primal shared by all probes."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from latentjac.kernels import attention_cotangent, attention_primal, attention_tangent, rowwise_product
from latentjac.linearization.instruction import Instruction, Tensor, align, only_active, rule, single, unbroadcast
from latentjac.linearization.precision import allows_tf32, computed_in
from latentjac.linearization.trace import Call, Meta, Ref, TraceError

# Covariances of all queries, both ways, are kept up to this size.
_KEPT_BYTES = 64 * 2**20


class _Side:
    """Queries, keys or values: how a slot becomes ``[*probes, batch, heads, tokens, channels]``, and back.

    Args:
        slot: Where the values are.
        shape: Of the slot.
        lead: What lies before tokens and channels in the result of the attention.
        grouped: Whether fewer heads are repeated one by one (grouped queries), and not as a whole.
        transposed: Whether the last two dimensions are channels and tokens.
    """

    def __init__(
        self, slot: int, shape: tuple[int, ...], lead: tuple[int, ...], grouped: bool, transposed: bool = False
    ) -> None:
        self.slot, self._shape, self._lead, self._transposed = slot, shape, lead, transposed
        self.tokens, self.channels = reversed(shape[-2:]) if transposed else shape[-2:]
        self._times = lead[-1] // shape[-3] if grouped and len(shape) > 2 and shape[-3] != lead[-1] else 1
        self._own = (*shape[:-3], shape[-3] * self._times) if len(shape) > 2 else ()
        self._folded = (math.prod(lead[:-1]), lead[-1]) if lead else (1, 1)

    @property
    def plain(self) -> bool:
        """Whether the slot is reshaped, and no more."""
        return not self._transposed and self._times == 1 and self._own == self._lead

    def lay(self, t: Tensor, *probes: int) -> Tensor:
        """A value or tangent as the kernels want it."""
        t = t.mT if self._transposed else t
        if not self.plain:
            t = t.repeat_interleave(self._times, -3) if self._times > 1 else t
            t = align(t, len(self._lead) + 2) if probes else t
            t = t.expand(*probes, *self._lead, self.tokens, self.channels)
        return t.reshape(*probes, *self._folded, self.tokens, self.channels)

    def back(self, u: Tensor) -> Tensor:
        """The transpose of :meth:`lay`, for cotangents."""
        if self.plain:
            return u.reshape(len(u), *self._shape)
        u = u.reshape(len(u), *self._lead, self.tokens, self.channels)
        u = unbroadcast(u, (*self._own, self.tokens, self.channels))
        if self._times > 1:
            u = u.unflatten(-3, (-1, self._times)).sum(-3)
        return u.mT if self._transposed else u


class Attention(Instruction):
    """``O = P V``, ``P = softmax(scale Q K^T + mask)``.

    The part of dQ is a small matrix for each query, ``dO_i = dQ_i C_i`` with
    ``C_i = scale (sum_j P_ij k_j v_j^T - kbar_i o_i^T)``, the covariance of keys and values under P. With many keys
    those matrices are computed once a base point, and the part of dQ costs no more than a projection. A single probe
    does without them, since they cost as much as d of it, and they wait for the first pass of several, unless what the
    primal does is recorded.
    """

    def __init__(
        self, call: Call, active: set[int], metas: dict[int, Meta], transposed: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(call, active, metas)
        self._transposed = transposed  # arguments that come with channels before tokens
        self._options = call.arguments
        self._target = self.shape(call.outs[0])[:-2]
        self._q, self._k, self._v = (self._side(name) for name in ("query", "key", "value"))
        self._sides = (self._q, self._k, self._v)
        lead = math.prod(self._target)
        size = 2 * lead * self._q.tokens * self._q.channels * self._v.channels * metas[self._q.slot].dtype.itemsize
        # By key, the part of dQ takes m d more products, which run 3 times as fast as those by query.
        self._covariance = (
            self._q.slot in self.inputs and self._k.tokens >= 4 * self._v.channels and size <= _KEPT_BYTES
        )
        self._c: Tensor | None = None
        self._c_transposed: Tensor | None = None
        self._c_holds = False  # whether they are those of the base point
        self._scored = self._k.slot in self.inputs or (self._q.slot in self.inputs and not self._covariance)

    def _side(self, name: str) -> _Side:
        slot = self._options[name].slot
        grouped = bool(self._options.get("enable_gqa"))
        return _Side(slot, self.shape(slot), self._target, grouped, name in self._transposed)

    @property
    def kernel(self) -> str:
        """What computes it."""
        return "attention" + (", per-query covariance" if self._covariance else "")

    def copy(self, memo: dict[int, Instruction]) -> Instruction:
        other = super().copy(memo)
        assert isinstance(other, Attention)
        other._c = other._c_transposed = None  # written to in place
        other._c_holds = False
        return other

    def primal(self, env: dict[int, Tensor]) -> None:
        device = env[self._q.slot].device
        kind = computed_in(self.metas[self._q.slot].dtype, device)
        q, k, v = (side.lay(env[side.slot].to(kind)) for side in self._sides)
        self._kept = attention_primal(
            q,
            k,
            v,
            scale=self._options["scale"],
            bias=self._bias(env),
            causal=self._options["is_causal"],
            allow_tf32=allows_tf32(q.device),
        )
        self._c_holds = False
        if self._covariance and not self.defers:
            self._keep_covariance(q)
        exact = q.dtype == env[self._q.slot].dtype
        if exact:
            env[self.outs[0]] = self._kept.o.reshape(self.shape(self.outs[0]))
        else:
            self._evaluate(env)

    def _evaluate(self, env: dict[int, Tensor]) -> None:
        env[self.outs[0]] = self.call.evaluate(env)

    def _keep_covariance(self, q: Tensor) -> None:
        # C_i is what unit vectors in place of dQ_i give.
        batch, heads, n, d = q.shape
        units = torch.eye(d, dtype=q.dtype, device=q.device).reshape(d, 1, 1, 1, d)
        if self._c is None:
            self._c = q.new_empty(batch, n, heads, d, self._v.channels)
            self._c_transposed = q.new_empty(batch, n, heads, self._v.channels, d)
        attention_tangent(self._kept, units.expand(-1, *q.shape), out=self._c.permute(3, 0, 2, 1, 4))
        self._c_transposed.copy_(self._c.mT)
        self._c_holds = True

    def _by_covariance(self, probes: int) -> bool:
        """Whether a pass of so many probes takes the matrices, which then are there."""
        if not self._covariance or (probes == 1 and self.defers):
            return False
        if not self._c_holds:
            self._keep_covariance(self._kept.q)
        return True

    def _bias(self, env: dict[int, Tensor]) -> Tensor | None:
        mask = self._options["attn_mask"]
        if not isinstance(mask, Ref):
            return None
        allowed, dtype = env[mask.slot], self.metas[self._q.slot].dtype
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        if allowed.dtype == torch.bool:
            allowed = torch.zeros_like(allowed, dtype=kind).masked_fill_(~allowed, -math.inf)
        allowed = allowed.to(kind)
        if len(self._target) == 2:
            return allowed
        pairs = (self._q.tokens, self._k.tokens)
        return allowed.expand(*self._target, *pairs).reshape(math.prod(self._target[:-1]), *self._target[-1:], *pairs)

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        probes, kind = len(t[0]), self._kept.q.dtype
        by_slot = dict(zip(self.inputs, t, strict=True))
        dq, dk, dv = (
            side.lay(by_slot[side.slot].to(kind), probes) if side.slot in by_slot else None for side in self._sides
        )
        out = None
        if dq is not None and self._by_covariance(probes):
            assert self._c is not None
            out, dq = rowwise_product(self._c, dq), None
        if dq is not None or dk is not None or dv is not None:
            out = attention_tangent(self._kept, dq, dk, dv, out=out, accumulate=out is not None)
        return out.reshape(probes, *self.shape(self.outs[0])).to(t[0].dtype)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        folded = w.to(self._kept.q.dtype).reshape(len(w), *self._kept.o.shape)
        out = self._buffers(folded)
        active = [side.slot in self.inputs for side in self._sides]
        by_covariance = self._by_covariance(len(w))
        wanted = (active[0] and not by_covariance, active[1], active[2])
        parts: list[Tensor | None] = list(out)
        if any(wanted):
            parts = list(attention_cotangent(self._kept, folded, wanted=wanted, out=out))
        if by_covariance:
            assert self._c_transposed is not None
            parts[0] = rowwise_product(self._c_transposed, folded, out=out[0])
        total: dict[int, Tensor] = {}
        for side, part, given in zip(self._sides, parts, active, strict=True):
            if given:
                assert part is not None
                back = side.back(part).to(w.dtype)
                total[side.slot] = total[side.slot] + back if side.slot in total else back
        return [total[slot] for slot in self.inputs]

    def _buffers(self, u: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Room for the three cotangents side by side, as a projection to all three wants them in one piece."""
        q, k, v = self._sides
        alike = len(self.inputs) == 3 and all(side.plain for side in self._sides)
        if not alike or q.tokens != k.tokens or q.channels != v.channels:
            return None, None, None
        probes, batch, heads = u.shape[:3]
        joint = u.new_empty(probes, batch, q.tokens, 3, heads, q.channels)
        return tuple(part.transpose(2, 3) for part in joint.unbind(3))

    def flops(self) -> int:
        lead, (n, d), (m, e) = (
            math.prod(self._target),
            (self._q.tokens, self._q.channels),
            (
                self._k.tokens,
                self._v.channels,
            ),
        )
        pairs = 2 * lead * n * m
        total = pairs * e if self._v.slot in self.inputs else 0
        if self._covariance:
            total += 2 * lead * n * d * e
        elif self._q.slot in self.inputs:
            total += pairs * d
        if self._k.slot in self.inputs:
            total += pairs * d
        return total + (pairs * e if self._scored else 0)


@rule("aten.scaled_dot_product_attention.default")
def attention(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """Attention whose mask does not depend on x."""
    if call.arguments["dropout_p"] > 0:
        raise TraceError("attention drops out probabilities at random; put the network in eval mode")
    return Attention(call, active, metas) if only_active(call, active, "query", "key", "value") else None


@rule("aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten._log_softmax.default")
class Softmax(Instruction):
    """``dy = y o (t - sum(y o t))``, and without the outer y for the logarithm."""

    @property
    def is_over_keys(self) -> bool:
        """Whether it makes probabilities along the last dimension, in the type of its input."""
        last = self.call.arguments["dim"] in (-1, len(self.shape(self.outs[0])) - 1)
        return last and "log" not in self.call.target and self.metas[self.inputs[0]] == self.metas[self.outs[0]]

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
