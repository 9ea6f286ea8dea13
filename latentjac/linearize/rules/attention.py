"""Softmax attention: one primal shared by all probes."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from latentjac.linearize.instruction import Instruction, Tensor, only_active, rule
from latentjac.linearize.trace import Call, Meta, Ref, TraceError

# Probabilities of all heads are kept up to this size, and recomputed block by block above it.
STORED_BYTES = 256 * 2**20
# Size of one block of scores: small enough for the cores' own caches, large enough to be worth three calls.
BLOCK_BYTES = 2 * 2**20


class Attention(Instruction):
    """``O = P V``, ``P = softmax(scale Q K^T + mask)``.

    With ``R = scale P o (dQ K^T + Q dK^T)``: ``dO = R V - rowsum(R) o O + P dV``. The part of dQ is a small
    matrix for each query, ``dO_i = C_i dQ_i`` with ``C_i = scale (sum_j P_ij v_j k_j^T - O_i kbar_i^T)``, the
    covariance of values and keys under P. Where those matrices take less room than P they are kept, and the
    part of dQ costs no more than a projection; with constant keys and values (text) nothing else is left.
    """

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        self._q, self._k, self._v = (call.arguments[name].slot for name in ("query", "key", "value"))
        (*self._lead, self._n, self._d), (*_, self._m, _), (*_, self._dv) = map(self.shape, (self._q, self._k, self._v))
        self._heads = math.prod(self._lead)
        scale = call.arguments["scale"]
        self._scale = 1 / math.sqrt(self._d) if scale is None else scale
        nbytes = self._heads * self._n * self._m * metas[self._q].dtype.itemsize
        self._stored = nbytes <= STORED_BYTES
        # Shared inputs would need their parts added up; they do not occur in networks that project first.
        self._covariance = self._q in self.inputs and self._d * self._dv <= 2 * self._m
        self._blocks = list(self._plan(metas[self._q].dtype.itemsize))

    @property
    def kernel(self) -> str:
        """How probabilities and the part of the queries are had."""
        kept = "stored P" if self._stored else "recomputed P"
        return f"matmuls, {kept}" + (", per-query covariance" if self._covariance else "")

    def _plan(self, itemsize: int) -> Iterator[tuple[slice, slice]]:
        """Blocks of heads and queries whose scores are in work together."""
        row = self._m * itemsize
        rows = self._n if self._stored else max(1, min(self._n, BLOCK_BYTES // row))
        heads = max(1, BLOCK_BYTES // (row * rows))
        for h in range(0, self._heads, heads):
            for i in range(0, self._n, rows):
                yield slice(h, min(h + heads, self._heads)), slice(i, min(i + rows, self._n))

    def primal(self, env: dict[int, Tensor]) -> None:
        q, k, v = (
            env[slot].reshape(self._heads, *self.shape(slot)[-2:]).contiguous() for slot in (self._q, self._k, self._v)
        )
        self._mask = self._make_mask(env)
        self._values = (q, k, v)
        # A column of ones gives row sums along with the product.
        self._v1 = torch.cat([v, v.new_ones(self._heads, self._m, 1)], -1)
        self._kept = None
        if self._stored:
            p = self._compute_probabilities(slice(None), slice(None))
            self._kept = p, p.mT.contiguous()
        outer = (v.unsqueeze(-1) * k.unsqueeze(-2)).flatten(2) if self._covariance else None
        o = q.new_empty(self._heads, self._n, self._dv)
        c = q.new_empty(self._heads, self._n, self._dv, self._d) if self._covariance else None
        for h, rows in self._blocks:
            p, _ = self._probabilities(h, rows)
            o[h, rows] = p @ v[h]
            if c is not None:
                mean = torch.bmm(p, outer[h]).unflatten(-1, (self._dv, self._d))
                c[h, rows] = (mean - o[h, rows].unsqueeze(-1) * (p @ k[h]).unsqueeze(-2)).mul_(self._scale)
        self._o = o
        # Queries before heads, as projections leave them: products with tangents then need no copy.
        self._c = None if c is None else c.reshape(*self._lead, self._n, self._dv, self._d).movedim(-3, -4).contiguous()
        env[self.outs[0]] = o.reshape(*self._lead, self._n, self._dv)

    def _make_mask(self, env: dict[int, Tensor]) -> Tensor | None:
        mask, q = self.call.arguments["attn_mask"], env[self._q]
        if self.call.arguments["is_causal"]:
            allowed = torch.ones(self._n, self._m, dtype=torch.bool, device=q.device).tril()
        elif isinstance(mask, Ref):
            allowed = env[mask.slot]
        else:
            return None
        if allowed.dtype == torch.bool:
            allowed = torch.zeros_like(allowed, dtype=q.dtype).masked_fill_(~allowed, -math.inf)
        return allowed.expand(*self._lead, self._n, self._m).reshape(self._heads, self._n, self._m)

    def _compute_probabilities(self, h: slice, rows: slice) -> Tensor:
        q, k, _ = self._values
        scores = torch.bmm(q[h, rows] * self._scale, k[h].mT)
        if self._mask is not None:
            scores += self._mask[h, rows]
        return torch.softmax(scores, -1)

    def _probabilities(self, h: slice, rows: slice) -> tuple[Tensor, Tensor]:
        """A block of P and its transpose; which of the two a product reads decides how fast that is."""
        if self._kept is not None:
            return self._kept[0][h, rows], self._kept[1][h, :, rows]
        p = self._compute_probabilities(h, rows)
        return p, p.mT.contiguous()

    def _groups(self, probes: int, h: slice, rows: slice) -> Iterator[slice]:
        """Probes whose scores are in work together."""
        size = (h.stop - h.start) * (rows.stop - rows.start) * self._m * self._o.element_size()
        step = max(1, BLOCK_BYTES // size)
        for start in range(0, probes, step):
            yield slice(start, min(start + step, probes))

    def _fold(self, t: Tensor) -> Tensor:
        return t.reshape(len(t), self._heads, *t.shape[-2:])

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        given = dict(zip(self.inputs, t, strict=True))
        probes = len(t[0])
        out = None
        if self._covariance:
            out = self._by_query(given[self._q], self._c.mT)
        scored = self._k in given or (self._q in given and not self._covariance)
        if not scored and self._v not in given:
            return out
        dq = self._fold(given[self._q]) if self._q in given and not self._covariance else None
        dk, dv = (self._fold(given[slot]) if slot in given else None for slot in (self._k, self._v))
        rest = self._o.new_zeros(probes, self._heads, self._n, self._dv)
        # Products with v, and below them the row sums, with queries last: see below.
        rv = self._o.new_empty(probes, self._heads, self._dv + 1, self._n) if scored else None
        for h, rows in self._blocks:
            p, pt = self._probabilities(h, rows)
            if dv is not None:
                _shared_product(p, dv[:, h], rest[:, h, rows])
            for g in self._groups(probes, h, rows) if scored else ():
                # Keys before queries: the narrow product with v is several times faster from that side.
                r = self._scores(dq, dk, g, h, rows).mul_(pt)
                rv[g, h, :, rows] = torch.matmul(self._v1[h].mT, r)
        if rv is not None:
            rest += rv[:, :, :-1].addcmul_(rv[:, :, -1:], self._o.mT, value=-1).mT
        rest = rest.reshape(probes, *self._lead, self._n, self._dv)
        return rest if out is None else out.add_(rest)

    def _scores(self, dq: Tensor | None, dk: Tensor | None, g: slice, h: slice, rows: slice) -> Tensor:
        """``scale (K dQ^T + dK Q^T)`` of a block."""
        q, k, _ = self._values
        if dk is None:
            return torch.matmul(k[h] * self._scale, dq[g, h, rows].mT)
        if dq is None:
            return torch.matmul(dk[g, h], (q[h, rows] * self._scale).mT)
        right = torch.cat([dq[g, h, rows], q[h, rows].expand_as(dq[g, h, rows])], -1).mul_(self._scale)
        return torch.matmul(torch.cat([k[h].expand_as(dk[g, h]), dk[g, h]], -1), right.mT)

    def _by_query(self, t: Tensor, matrices: Tensor) -> Tensor:
        """Products of each query's row, all probes at once, with that query's own matrix."""
        rows = t.movedim(-2, -3)  # [P, ..., N, heads, d]
        flat = rows.reshape(len(t), -1, t.shape[-1]).transpose(0, 1)
        out = torch.bmm(flat, matrices.reshape(-1, *matrices.shape[-2:]))
        return out.transpose(0, 1).reshape(*rows.shape[:-1], out.shape[-1]).movedim(-3, -2)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        probes, wanted = len(u[0]), set(self.inputs)
        folded = self._fold(u[0])
        dq = dk = dv = u1 = None
        q, k, _ = self._values
        if self._v in wanted:
            dv = folded.new_zeros(probes, self._heads, self._m, self._dv)
        if self._k in wanted:
            dk = folded.new_zeros(probes, self._heads, self._d, self._m)
        if self._q in wanted and not self._covariance:
            dq = folded.new_empty(probes, self._heads, self._n, self._d)
        scored = dq is not None or dk is not None
        if scored:
            u1 = torch.cat([folded, (folded * self._o).sum(-1, keepdim=True).neg_()], -1)
        for h, rows in self._blocks if scored or dv is not None else ():
            p, pt = self._probabilities(h, rows)
            if dv is not None:
                _shared_product(pt, folded[:, h, rows], dv[:, h], add=True)
            for g in self._groups(probes, h, rows) if scored else ():
                e = torch.matmul(u1[g, h, rows], self._v1[h].mT).mul_(p)
                if dk is not None:
                    dk[g, h] += torch.matmul((q[h, rows] * self._scale).mT, e)
                if dq is not None:
                    dq[g, h, rows] = torch.matmul(e, k[h] * self._scale)
        dk = None if dk is None else dk.mT
        parts = {self._q: dq, self._k: dk, self._v: dv}
        if self._covariance:
            parts[self._q] = self._by_query(u[0], self._c)
        return [parts[slot].reshape(probes, *self.shape(slot)) for slot in self.inputs]

    def flops(self) -> int:
        pairs = 2 * self._heads * self._n * self._m
        total = self._v in self.inputs and pairs * self._dv
        if self._covariance:
            total += 2 * self._heads * self._n * self._d * self._dv
        if self._k in self.inputs or not self._covariance:
            total += pairs * (self._d + self._dv + 1)
        return int(total)


def _shared_product(p: Tensor, t: Tensor, out: Tensor, add: bool = False) -> None:
    """``out = p @ t`` for one p ``[h, n, m]`` and all probes of t ``[P, h, m, d]``, as one product for each head."""
    columns = t.permute(1, 2, 0, 3).reshape(t.shape[1], t.shape[2], -1)
    product = torch.bmm(p, columns).unflatten(-1, (len(t), -1)).permute(2, 0, 1, 3)
    out.add_(product) if add else out.copy_(product)


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
        y = env[self.outs[0]]
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
