"""Long rows, in float64: Gram matrices of them, and linear combinations.

    gram            G_ij = sum_n a_in b_jn
    combine_rows    out_rn = sum_i w_ri x_in (+ sum_j m_rj y_jn)

Values are multiplied and added in float64 whatever their type. A CUDA kernel reads the rows as they are, once, where
torch would write a float64 copy first; on the CPU the reference implementation runs. B points, n entries a row.

A NaN stays in the entries of G of its row, and in its column of out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments import check_bool
from . import reference
from .guards import refuse_differentiated, refuse_tracing
from .launch import launch
from .native import native_for
from .tensors import DTYPES, check_like, check_shape, check_type, readable


def gram(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Inner products of rows with rows.

    Args:
        a: rows, shape [B, p, n]; float32, float64, bfloat16 or float16.
        b: rows, shape [B, q, n], of the same type; None: a.

    Returns:
        Shape [B, p, q], float64; the same bits every time.

    Raises:
        ValueError: a shape is not as above.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "gram"
    refuse_tracing(name)
    refuse_differentiated(name, a=a, b=b)
    _check_rows(name, "a", a)
    if b is not None:
        check_shape(name, "b", b, "[B, q, n]", 3)
        check_like(name, "b", b, (len(a), b.shape[1], a.shape[2]), a.dtype, a.device)
    module = native_for(name, a)
    if module is None or 0 in a.shape or (b is not None and 0 in b.shape):
        return reference.gram(a, b)
    first = _laid(a)
    second = first if b is None else _laid(b)
    points, a_rows, length = a.shape
    out = a.new_empty(points, a_rows, second.shape[1], dtype=torch.float64)
    launch(module, name, a.device, {
        "a": _array(first), "b": _array(second), "out": out.data_ptr(),
        "points": points, "a_rows": a_rows, "b_rows": second.shape[1], "length": length, "dtype": DTYPES[a.dtype],
    })  # fmt: skip
    return out


def combine_rows(
    weights: Tensor, rows: Tensor, more: Tensor | None = None, others: Tensor | None = None, *, wide: bool = False
) -> Tensor:
    """Linear combinations of rows, and of further rows.

    Args:
        weights: shape [B, r, p], float64, with any strides.
        rows: shape [B, p, n]; float32, float64, bfloat16 or float16.
        more: weights of further rows, shape [B, r, q], float64; None without such.
        others: these rows, shape [B, q, n], type of `rows`; given with `more`.
        wide: leave the results in float64 instead of rounding them to the type of `rows`.

    Returns:
        Shape [B, r, n].

    Raises:
        ValueError: a shape is not as above, or one of `more` and `others` is missing.
        TypeError: a dtype or device is not as above.
        RuntimeError: a tensor takes part in differentiation, or the call is being traced.
    """
    name = "combine_rows"
    refuse_tracing(name)
    refuse_differentiated(name, weights=weights, rows=rows, more=more, others=others)
    _check_rows(name, "rows", rows)
    wide = check_bool(name, "wide", wide)
    if (more is None) != (others is None):
        raise ValueError(f"{name}: more and others must come together, got one of them")
    _check_weights(name, "weights", weights, rows, None)
    results = weights.shape[1]
    if more is not None and others is not None:
        _check_rows(name, "others", others)
        check_like(name, "others", others, (len(rows), others.shape[1], rows.shape[2]), rows.dtype, rows.device)
        _check_weights(name, "more", more, others, results)
    module = native_for(name, rows)
    if module is None or rows.numel() == 0 or results == 0:
        return reference.combine_rows(weights, rows, more, others, wide)
    weights, more = readable(weights), None if more is None else readable(more)
    out = rows.new_empty((len(rows), results, rows.shape[2]), dtype=torch.float64 if wide else rows.dtype)
    laid = [_laid(rows), None if others is None else _laid(others)]  # have to live until the call is over
    launch(module, name, rows.device, {
        "first": _weighted(weights, laid[0]), "second": _weighted(more, laid[1]), "out": out.data_ptr(),
        "points": len(out), "results": results, "length": out.shape[2], "dtype": DTYPES[rows.dtype], "wide": wide,
    })  # fmt: skip
    return out


def _check_rows(name: str, label: str, rows: Tensor) -> None:
    check_shape(name, label, rows, "[B, p, n]", 3)
    check_type(name, label, rows)


def _check_weights(name: str, label: str, weights: Tensor, rows: Tensor, results: int | None) -> None:
    check_shape(name, label, weights, "[B, r, p]", 3)
    count = weights.shape[1] if results is None else results
    shape = (len(rows), 1 if count is None else count, rows.shape[1])
    check_like(name, label, weights, shape, torch.float64, rows.device)


def _laid(rows: Tensor) -> Tensor:
    """The same with the entries of a row side by side."""
    rows = readable(rows)
    return rows if rows.stride(2) == 1 or rows.shape[2] == 1 else rows.contiguous()


def _array(rows: Tensor) -> tuple[int, int, int]:
    """Address and strides of point and row, as csrc/kernels.h has them."""
    return rows.data_ptr(), rows.stride(0), rows.stride(1)


def _weighted(weights: Tensor | None, rows: Tensor | None) -> dict[str, Any]:
    """Rows and their weights, as csrc/kernels.h has them; none of either where they are absent."""
    if weights is None or rows is None:
        return {"weights": None, "point": 0, "result": 0, "row": 0, "rows": (None, 0, 0), "count": 0}
    point, result, row = weights.stride()
    at = weights.data_ptr()
    return {"weights": at, "point": point, "result": result, "row": row, "rows": _array(rows), "count": rows.shape[1]}
