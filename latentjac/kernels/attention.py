"""Softmax attention: one primal, shared by the tangents and cotangents of many probes.

    primal      O = P V,  P = softmax(scale Q K^T + bias),  lse = logarithm of each row's sum
    tangent     dO_i = sum_j P_ij (ds_ij (v_j - o_i) + dv_j),  ds_ij = scale (dq_i k_j + q_i dk_j)
    cotangent   dq_i = sum_j e_ij k_j,  dk_j = sum_i e_ij q_i,  dv_j = sum_i P_ij u_i
                with e_ij = scale P_ij u_i (v_j - o_i)

P is formed again from Q, K and lse, tile by tile, and each tile serves all probes; it is never stored whole. B batch, H
heads, N queries, M keys, D channels of queries and keys, E channels of values, P probes.

A query that sees no key (its whole row of the bias is -inf) has o = 0 and no derivative. A NaN goes where the formulas
take it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from latentjac.arguments import check_bool, check_kind, check_number

from . import attention_reference as reference
from .guards import refuse_differentiated, refuse_tracing
from .launch import launch
from .native import native_for
from .reference import statistics_dtype
from .tensors import DTYPES, check_like, check_shape, check_type, readable, refuse_overlap

Parts = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class AttentionPrimal:
    """What the primal keeps for the probes.

    Attributes:
        q: queries, shape [B, H, N, D].
        k: keys, shape [B, H, M, D].
        v: values, shape [B, H, M, E].
        o: the output, shape [B, H, N, E].
        lse: logarithm of the sum of each row, shape [B, H, N], float64 for float64 q, else float32.
        scale: factor of the scores.
        bias: what was added to the scores, shape [B, H, N, M], broadcast where that saves memory; None: nothing.
        causal: whether query i saw keys 0..i only.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    lse: Tensor
    scale: float
    bias: Tensor | None
    causal: bool
    native: tuple[ModuleType, Any, Any] | None = field(default=None, repr=False)


def attention_primal(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    allow_tf32: bool = False,
) -> AttentionPrimal:
    """Attend, and keep what the tangents need.

    Args:
        q: queries, shape [B, H, N, D]. float32 or float64, on CUDA also bfloat16 or float16.
        k: keys, shape [B, H, M, D].
        v: values, shape [B, H, M, E].
        scale: factor of the scores; None: 1/sqrt(D).
        bias: added to the scores, broadcast to [B, H, N, M]; -inf forbids. float64 for float64 q, else float32.
        causal: query i sees keys 0..i only.
        allow_tf32: the CUDA kernels may round the factors of float32 products to tf32's 11 bits, here and for all
            tangents and cotangents of this primal: three times fewer products, each right to about 5e-4. Processors
            and other types take no notice; where torch computes instead of a kernel, torch's own setting holds.

    Returns:
        The output with all that it was made of; its arrays are those given, so they must not be written to.

    Raises:
        ValueError: a shape is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "attention_primal"
    refuse_tracing(name)
    refuse_differentiated(name, q=q, k=k, v=v, bias=bias)
    check_shape(name, "q", q, "[B, H, N, D]", 4)
    check_type(name, "q", q)
    batch, heads, queries, size = q.shape
    check_shape(name, "v", v, f"[{batch}, {heads}, M, E]", 4)
    keys = v.shape[2]
    check_like(name, "k", k, (batch, heads, keys, size), q.dtype, q.device)
    check_like(name, "v", v, (batch, heads, keys, v.shape[3]), q.dtype, q.device)
    kind = statistics_dtype(q.dtype)
    if bias is not None:
        bias = _check_bias(name, bias, (batch, heads, queries, keys), kind, q.device)
    scale = (1 / math.sqrt(size) if size else 1.0) if scale is None else check_number(name, "scale", scale)
    causal, allow_tf32 = check_bool(name, "causal", causal), check_bool(name, "allow_tf32", allow_tf32)
    q, k, v = (_rows(t) for t in (q, k, v))
    module = native_for(name, q)
    if module is None or 0 in q.shape or 0 in v.shape:
        with torch.no_grad():
            o, lse = reference.primal(q, k, v, scale, bias, causal)
        return AttentionPrimal(q, k, v, o, lse, scale, bias, causal)
    o = _empty(q, (1, batch, heads, queries, v.shape[3]))[0]
    lse = torch.empty(batch, heads, queries, dtype=kind, device=q.device)
    shape = {
        "batch": batch, "heads": heads, "queries": queries, "keys": keys, "channels": size,
        "value_channels": v.shape[3], "scale": scale, "dtype": DTYPES[q.dtype], "causal": causal,
        "allow_tf32": allow_tf32,
    }  # fmt: skip
    call = {
        "shape": shape, "q": _array(q), "k": _array(k), "v": _array(v),
        "bias": _ABSENT if bias is None else (bias.data_ptr(), *bias.stride()), "o": _array(o), "lse": lse.data_ptr(),
    }  # fmt: skip
    launch(module, name, q.device, call)
    primal = AttentionPrimal(q, k, v, o, lse, scale, bias, causal)
    return replace(primal, native=(module, call, _places(primal)))


def attention_tangent(
    primal: AttentionPrimal,
    dq: Tensor | None = None,
    dk: Tensor | None = None,
    dv: Tensor | None = None,
    *,
    out: Tensor | None = None,
    accumulate: bool = False,
) -> Tensor:
    """Push tangents of queries, keys and values through attention (JVP).

    Args:
        primal: from :func:`attention_primal`.
        dq: tangents of the queries, shape [P, B, H, N, D]; None: zero, and free.
        dk: tangents of the keys, shape [P, B, H, M, D]; None: zero.
        dv: tangents of the values, shape [P, B, H, M, E]; None: zero.
        out: buffer, shape [P, B, H, N, E], channels side by side, that shares no memory with the tangents.
        accumulate: add to `out` instead of overwriting it.

    Returns:
        Tangents of the output, shape [P, B, H, N, E]; in memory, heads follow rows, as a projection wants them.

    Raises:
        ValueError: no tangent, or a shape that is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "attention_tangent"
    refuse_tracing(name)
    _check_primal(name, primal)
    given = {"dq": dq, "dk": dk, "dv": dv}
    refuse_differentiated(name, **given, out=out)
    accumulate = check_bool(name, "accumulate", accumulate)
    if dq is None and dk is None and dv is None:
        raise ValueError(f"{name}: one of dq, dk and dv must be given, got none")
    probes = -1
    for (key, t), value in zip(given.items(), (primal.q, primal.k, primal.v), strict=True):
        if t is not None:
            check_shape(name, key, t, "[P, B, H, N, D]", 5)
            probes = len(t) if probes < 0 else probes
            check_like(name, key, t, (probes, *value.shape), value.dtype, value.device)
    if accumulate and out is None:
        raise ValueError(f"{name}: accumulate must come with out, got out=None")
    given_out, out = out, _buffer(name, "out", out, primal.o, (probes, *primal.o.shape))
    refuse_overlap(name, {**given, **_kept(primal)}, {"out": given_out})
    if out.numel() == 0:
        return out
    if primal.native is None:
        with torch.no_grad():
            value = reference.tangent(primal, dq, dk, dv)
            return out.add_(value) if accumulate else out.copy_(value)
    dq, dk, dv = (None if t is None else _rows(t) for t in (dq, dk, dv))
    module, shared = primal.native[:2]
    launch(module, name, out.device, {
        **shared, "probes": probes, "dq": _array(dq), "dk": _array(dk), "dv": _array(dv), "out": _array(out),
        "accumulate": accumulate,
    })  # fmt: skip
    return out


def attention_cotangent(
    primal: AttentionPrimal,
    u: Tensor,
    *,
    wanted: tuple[bool, bool, bool] = (True, True, True),
    out: Parts = (None, None, None),
) -> Parts:
    """Pull cotangents of the output back to queries, keys and values (VJP): the transpose of the tangent.

    Args:
        primal: from :func:`attention_primal`.
        u: cotangents of the output, shape [P, B, H, N, E].
        wanted: which of dq, dk and dv to compute.
        out: buffers for them, of the shapes of dq, dk and dv in :func:`attention_tangent`, channels side by side.

    Returns:
        dq, dk and dv; None where one is not wanted.

    Raises:
        ValueError: nothing is wanted, or a shape is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "attention_cotangent"
    refuse_tracing(name)
    _check_primal(name, primal)
    for argument, three in (("wanted", wanted), ("out", out)):
        check_kind(name, argument, three, (tuple, list), "a tuple of three")
        if len(three) != 3:
            raise ValueError(f"{name}: {argument} must have three entries, for dq, dk and dv, got {len(three)}")
    wanted = tuple(check_bool(name, f"wanted[{i}]", value) for i, value in enumerate(wanted))  # type: ignore[assignment]
    refuse_differentiated(name, u=u, **dict(zip(("out[0]", "out[1]", "out[2]"), out, strict=True)))
    if not any(wanted):
        raise ValueError(f"{name}: wanted must name one of dq, dk and dv, got {wanted}")
    check_shape(name, "u", u, "[P, B, H, N, E]", 5)
    check_like(name, "u", u, (len(u), *primal.o.shape), primal.o.dtype, primal.o.device)
    dq, dk, dv = results = [
        _buffer(name, f"out[{i}]", out[i], value, (len(u), *value.shape)) if wanted[i] else None
        for i, value in enumerate((primal.q, primal.k, primal.v))
    ]
    refuse_overlap(name, {"u": u, **_kept(primal)}, {f"out[{i}]": t for i, t in enumerate(out) if wanted[i]})
    if primal.native is None or u.numel() == 0:
        with torch.no_grad():
            for buffer, value in zip(results, reference.cotangent(primal, u, wanted), strict=True):
                if buffer is not None and value is not None:
                    buffer.copy_(value)
        return dq, dk, dv
    laid = _rows(u)  # has to live until the call is over
    module, shared = primal.native[:2]
    launch(module, name, u.device, {
        **shared, "probes": len(u), "u": _array(laid), "dq": _array(dq), "dk": _array(dk), "dv": _array(dv),
    })  # fmt: skip
    return dq, dk, dv


def rowwise_product(matrices: Tensor, t: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Multiply each row of many probes with a matrix of its own.

    Args:
        matrices: contiguous, shape [B, N, H, D, E], shared by all probes.
        t: rows, shape [P, B, H, N, D].
        out: buffer, shape [P, B, H, N, E], channels side by side, that shares no memory with t.

    Returns:
        Rows, shape [P, B, H, N, E]; in memory, heads follow rows.

    Raises:
        ValueError: a shape is not as above, or the matrices are not contiguous.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "rowwise_product"
    refuse_tracing(name)
    refuse_differentiated(name, matrices=matrices, t=t, out=out)
    check_shape(name, "matrices", matrices, "[B, N, H, D, E]", 5)
    if not matrices.is_contiguous():
        raise ValueError(f"{name}: matrices must be contiguous [B, N, H, D, E], got {list(matrices.shape)}")
    check_type(name, "matrices", matrices)
    batch, rows, heads, size, width = matrices.shape
    check_shape(name, "t", t, "[P, B, H, N, D]", 5)
    check_like(name, "t", t, (len(t), batch, heads, rows, size), matrices.dtype, matrices.device)
    given_out, out = out, _buffer(name, "out", out, t, (len(t), batch, heads, rows, width))
    refuse_overlap(name, {"matrices": matrices, "t": t}, {"out": given_out})
    module = native_for(name, t)
    if module is None or t.numel() == 0 or out.numel() == 0:
        with torch.no_grad():
            return out.copy_(reference.rowwise_product(matrices, t))
    matrices, laid = readable(matrices), _rows(t)  # have to live until the call is over
    launch(module, name, t.device, {
        "matrices": matrices.data_ptr(), "probes": len(t), "batch": batch, "heads": heads, "rows": rows,
        "channels": size, "value_channels": width, "t": _array(laid), "out": _array(out), "dtype": DTYPES[t.dtype],
    })  # fmt: skip
    return out


def _kept(primal: AttentionPrimal) -> dict[str, Tensor | None]:
    """The arrays that a kernel reads from where they lay when the primal was made."""
    return {f"primal.{name}": getattr(primal, name) for name in ("q", "k", "v", "o", "lse", "bias")}


def _places(primal: AttentionPrimal) -> Any:
    kept = (primal.q, primal.k, primal.v, primal.o, primal.lse, primal.bias)
    return [None if t is None else (t.data_ptr(), t.shape, t.stride()) for t in kept]


def _check_primal(name: str, primal: AttentionPrimal) -> None:
    check_kind(name, "primal", primal, AttentionPrimal, "an AttentionPrimal")
    if primal.native is not None and primal.native[2] != _places(primal):
        raise ValueError(
            f"{name}: primal must be as attention_primal returned it, got one whose arrays were replaced or moved; "
            "call attention_primal again"
        )


def _check_bias(name: str, bias: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    check_shape(name, "bias", bias, f"that broadcasts to {list(shape)}", bias.dim())
    try:
        bias = bias.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name}: bias must broadcast to {list(shape)}, got {list(bias.shape)}") from None
    check_like(name, "bias", bias, shape, dtype, device)
    return readable(bias)


def _rows(t: Tensor) -> Tensor:
    """The same with channels side by side in memory, as the kernels read them."""
    t = readable(t)
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[P, B, H, N, E] in which heads follow rows."""
    probes, batch, heads, rows, width = shape
    return like.new_empty(probes, batch, rows, heads, width).transpose(2, 3)


def _buffer(name: str, label: str, out: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    if out is None:
        return _empty(like, shape)
    check_like(name, label, out, shape, like.dtype, like.device)
    if out.stride(-1) != 1 and out.shape[-1] > 1:
        raise ValueError(f"{name}: {label} must have its channels side by side, got strides {out.stride()}")
    return out


_ABSENT = (None, 0, 0, 0, 0)


def _array(t: Tensor | None) -> tuple[int | None, ...]:
    """Address and strides of probe, batch, head and row, as csrc/kernels.h has them."""
    if t is None:
        return _ABSENT
    strides = t.stride()[:-1]
    return (t.data_ptr(), *strides) if len(strides) == 4 else (t.data_ptr(), 0, *strides)
