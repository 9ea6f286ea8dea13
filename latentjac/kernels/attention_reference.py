"""Attention in PyTorch: the oracle of the tests of its kernels, and what runs where the native module does not.

Shapes and formulas are those of `latentjac.kernels.attention`; arguments come already checked. Work goes in blocks of
queries whose scores, of all probes, stay small; P is formed again for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .reference import statistics_dtype

if TYPE_CHECKING:
    from .attention import AttentionPrimal

# Scores in work at once, of all probes: what fits the cache of a processor, and what is worth the launches of a GPU.
_BLOCK_BYTES, _BLOCK_BYTES_ON_A_GPU = 2 * 2**20, 256 * 2**20


def primal(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
    """Output and lse of q [B, H, N, D], k [B, H, M, D], v [B, H, M, E]."""
    kind = statistics_dtype(q.dtype)
    o, lse = [], []
    for rows in _blocks(q, k.shape[2] * q.shape[0] * q.shape[1] * kind.itemsize):
        scores = _scores(q, k, scale, bias, causal, rows)
        total = torch.logsumexp(scores, -1)
        o.append(_probabilities(scores, total) @ v.to(kind))
        lse.append(total)
    return torch.cat(o, 2).to(q.dtype), torch.cat(lse, 2)


def tangent(a: AttentionPrimal, dq: Tensor | None, dk: Tensor | None, dv: Tensor | None) -> Tensor:
    """Tangent of o of the tangents given, [P, ...]."""
    given = next(t for t in (dq, dk, dv) if t is not None)
    kind = a.lse.dtype
    out = a.o.new_empty(len(given), *a.o.shape, dtype=kind)
    q, k, v, o = (t.to(kind) for t in (a.q, a.k, a.v, a.o))
    for rows in _blocks(a.q, len(given) * _row_bytes(a)):
        p = _block(a, rows)
        ds = None
        if dk is not None:
            ds = q[:, :, rows] @ dk.to(kind).mT
        if dq is not None:
            other = dq[:, :, :, rows].to(kind) @ k.mT
            ds = other if ds is None else ds.add_(other)
        part = out[:, :, :, rows].zero_()
        if ds is not None:
            r = ds.mul_(p).mul_(a.scale)
            part += r @ v - r.sum(-1, keepdim=True) * o[:, :, rows]
        if dv is not None:
            part += p @ dv.to(kind)
    return out.to(a.o.dtype)


def cotangent(a: AttentionPrimal, u: Tensor, wanted: tuple[bool, bool, bool]) -> list[Tensor | None]:
    """Cotangents of q, k and v that are wanted, [P, ...]."""
    kind = a.lse.dtype
    q, k, v, o, w = (t.to(kind) for t in (a.q, a.k, a.v, a.o, u))
    outs = [
        torch.zeros(len(u), *t.shape, dtype=kind, device=u.device) if want else None
        for t, want in zip((a.q, a.k, a.v), wanted, strict=True)
    ]
    dq, dk, dv = outs
    for rows in _blocks(a.q, len(u) * _row_bytes(a)):
        p, part = _block(a, rows), w[:, :, :, rows]
        if dv is not None:
            dv += p.mT @ part
        if dq is None and dk is None:
            continue
        e = (part @ v.mT).sub_((part * o[:, :, rows]).sum(-1, keepdim=True)).mul_(p).mul_(a.scale)
        if dq is not None:
            dq[:, :, :, rows] = e @ k
        if dk is not None:
            dk += e.mT @ q[:, :, rows]
    return [None if t is None else t.to(a.o.dtype) for t in outs]


def rowwise_product(matrices: Tensor, t: Tensor) -> Tensor:
    """Rows [P, B, H, N, D] times matrices [B, N, H, D, E], row by row."""
    probes, batch, heads, rows, size = t.shape
    width, count = matrices.shape[4], batch * rows * heads
    flat = t.transpose(2, 3).reshape(probes, count, size).transpose(0, 1)
    out = torch.bmm(flat, matrices.reshape(count, size, width)).transpose(0, 1)
    return out.reshape(probes, batch, rows, heads, width).transpose(2, 3)


def _row_bytes(a: AttentionPrimal) -> int:
    return a.k.shape[2] * a.q.shape[0] * a.q.shape[1] * a.lse.element_size()


def _blocks(queries: Tensor, row_bytes: int) -> Iterator[slice]:
    count, most = queries.shape[2], _BLOCK_BYTES if queries.device.type == "cpu" else _BLOCK_BYTES_ON_A_GPU
    step = max(1, most // max(1, row_bytes))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _scores(q: Tensor, k: Tensor, scale: float, bias: Tensor | None, causal: bool, rows: slice) -> Tensor:
    kind = statistics_dtype(q.dtype)
    scores = (q[:, :, rows].to(kind) * scale) @ k.to(kind).mT
    if bias is not None:
        scores += bias[:, :, rows]
    if causal:
        queries = torch.arange(rows.start, rows.stop, device=q.device)
        scores.masked_fill_(torch.arange(k.shape[2], device=q.device) > queries.unsqueeze(1), -torch.inf)
    return scores


def _probabilities(scores: Tensor, total: Tensor) -> Tensor:
    # A row that sees no key has the sum 0, whose logarithm would make its probabilities NaN.
    return torch.exp(scores - total.masked_fill(total == -torch.inf, torch.inf).unsqueeze(-1))


def _block(a: AttentionPrimal, rows: slice) -> Tensor:
    return _probabilities(_scores(a.q, a.k, a.scale, a.bias, a.causal, rows), a.lse[:, :, rows])
