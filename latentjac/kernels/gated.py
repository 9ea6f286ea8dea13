"""Gated activations, as the feed-forward layers of transformers have them.

    primal      y = value * act(gate),  a = act(gate),  b = value * act'(gate)
    tangent     dy = a * dvalue + b * dgate
    cotangent   dvalue = a * u,  dgate = b * u

`a` and `b` are kept by the primal and shared by all probes, so each tangent is read once and written once. Tangents
have shape [P, R, C]: P probes of R rows of C channels. Value and gate are often the two halves of one array [P, R, 2C];
such views are taken as they are.

A NaN in a tangent makes the values computed from it NaN, and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_kind
from . import reference
from .guards import refuse_differentiated, refuse_tracing
from .launch import launch
from .native import native_for
from .tensors import DTYPES, buffer, check_like, check_shape, check_type, readable, refuse_overlap


def gated_tangent(value: Tensor, gate: Tensor, a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Push tangents of value and gate through a gated activation (JVP).

    Args:
        value: tangents of the value, shape [P, R, C]. float32 or float64, on CUDA also bfloat16 or float16.
        gate: tangents of the gate, shape and type of `value`.
        a: act(gate), shape [R, C], float64 for float64 tangents, else float32.
        b: value * act'(gate), shape and type of `a`.
        out: contiguous buffer, shape and type of `value`; shares no memory with it or with `gate`.

    Returns:
        Tangents of the output, shape [P, R, C]; `out` where given.

    Raises:
        ValueError: a shape is not as above, or `out` shares memory with a tangent.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "gated_tangent"
    refuse_tracing(name)
    refuse_differentiated(name, value=value, gate=gate, a=a, b=b, out=out)
    _check(name, "value", value, a, b)
    check_like(name, "gate", gate, value.shape, value.dtype, value.device)
    given, out = out, buffer(name, "out", out, value.shape, value.dtype, value.device)
    refuse_overlap(name, {"value": value, "gate": gate, "a": a, "b": b}, {"out": given})
    module = native_for(name, value)
    if module is None or value.numel() == 0:
        return out.copy_(reference.gated_tangent(value, gate, a, b))
    values, gates = _as_rows(readable(value)), _as_rows(readable(gate))
    a, b = readable(a).contiguous(), readable(b).contiguous()
    probes, rows, channels = value.shape
    launch(module, name, value.device, {
        "value": values.data_ptr(), "gate": gates.data_ptr(), "a": a.data_ptr(), "b": b.data_ptr(),
        "out": out.data_ptr(), "value_stride": values.stride(0), "gate_stride": gates.stride(0),
        "probes": probes, "rows": rows, "channels": channels, "dtype": DTYPES[value.dtype],
    })  # fmt: skip
    return out


def gated_cotangent(
    u: Tensor, a: Tensor, b: Tensor, *, out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Pull cotangents of the output back through a gated activation (VJP): the transpose of the tangent.

    Args:
        u: cotangents of the output, shape [P, R, C]; types as for the tangent.
        a: as for the tangent.
        b: as for the tangent.
        out: buffers for the two results, shape and type of `u`, with channels side by side and rows equally far apart,
            such as the halves of one array [P, R, 2C]; they share no entry with each other and no memory with `u`.

    Returns:
        Cotangents of the value and of the gate; `out` where given.

    Raises:
        ValueError: a shape or stride is not as above, or `out` shares memory with `u`.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "gated_cotangent"
    refuse_tracing(name)
    check_kind(name, "out", out, tuple, "a tuple of two tensors", optional=True)
    if out is not None and len(out) != 2:
        raise ValueError(f"{name}: out must be a tuple of two tensors, got {len(out)}")
    value, gate = out if out is not None else (None, None)
    refuse_differentiated(name, u=u, a=a, b=b, **{"out[0]": value, "out[1]": gate})
    _check(name, "u", u, a, b)
    value, gate = (
        torch.empty_like(u, memory_format=torch.contiguous_format) if given is None else given
        for given in (value, gate)
    )
    values, gates = _result_rows(name, "out[0]", value, u), _result_rows(name, "out[1]", gate, u)
    if out is not None:
        refuse_overlap(name, {"u": u, "a": a, "b": b}, {"out[0]": value, "out[1]": gate})
    module = native_for(name, u)
    if module is None or u.numel() == 0:
        for target, result in zip((value, gate), reference.gated_cotangent(u, a, b), strict=True):
            target.copy_(result)
        return value, gate
    u, a, b = (readable(t).contiguous() for t in (u, a, b))
    probes, rows, channels = u.shape
    launch(module, name, u.device, {
        "u": u.data_ptr(), "a": a.data_ptr(), "b": b.data_ptr(), "value": values.data_ptr(), "gate": gates.data_ptr(),
        "value_stride": values.stride(0), "gate_stride": gates.stride(0),
        "probes": probes, "rows": rows, "channels": channels, "dtype": DTYPES[u.dtype],
    })  # fmt: skip
    return value, gate


def _check(name: str, label: str, t: Tensor, a: Tensor, b: Tensor) -> None:
    check_shape(name, label, t, "[P, R, C]", 3)
    check_type(name, label, t)
    for key, value in (("a", a), ("b", b)):
        check_like(name, key, value, t.shape[1:], reference.statistics_dtype(t.dtype), t.device)


def _rows(t: Tensor) -> Tensor | None:
    """All rows of all probes [P * R, C] as a view, if they are equally far apart with channels side by side."""
    try:
        rows = t.view(-1, t.shape[-1]) if t.numel() else t.new_empty(0, t.shape[-1])
    except RuntimeError:
        return None
    side_by_side = rows.shape[1] == 1 or rows.stride(1) == 1
    return rows if side_by_side and (len(rows) < 2 or rows.stride(0) >= rows.shape[1]) else None


def _as_rows(t: Tensor) -> Tensor:
    rows = _rows(t)
    return t.reshape(-1, t.shape[-1]).contiguous() if rows is None else rows


def _result_rows(name: str, label: str, result: Tensor, like: Tensor) -> Tensor:
    check_like(name, label, result, like.shape, like.dtype, like.device)
    rows = _rows(result)
    if rows is None:
        raise ValueError(f"{name}: {label} must have channels side by side in equal rows, got {result.stride()}")
    return rows
