"""What tensors and facts must be to be a basis: shapes, kinds, order and orthonormal rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from latentjac.solvers.certificate import Certificate
from latentjac.solvers.outcome import Status

TENSORS = ("s", "v", "u", "residuals")
PREFIX = "certificate."
# Largest entry of |V V^T - I|. Rows are orthonormal to rounding when they are computed: 1e-15 and 1e-7. Bases that were
# rounded to a smaller type stay so to its precision; those of float64 may have come from float32.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}

_STATUSES = [status.value for status in Status]
_Kind = tuple[str, Callable[[Any], bool]]


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_COUNT: _Kind = ("an int from 0", lambda value: _is_int(value) and 0 <= value < 2**63)
_COUNTS: _Kind = (
    "an int from 0, or a list of such",
    lambda value: all(map(_COUNT[1], value)) if isinstance(value, list) else _COUNT[1](value),
)
_POSITIVE: _Kind = ("an int from 1", lambda value: _is_int(value) and 1 <= value < 2**63)
_TEXT: _Kind = ("a text", _is_text)
_FRACTION: _Kind = ("a number in [0, 1]", lambda value: _is_number(value) and 0 <= value <= 1)
_FROM_0: _Kind = ("a number from 0", lambda value: _is_number(value) and value >= 0)
_STATUS: _Kind = (f"one of {_STATUSES}", lambda value: _is_text(value) and value in _STATUSES)
_OBJECT: _Kind = ("a JSON object", lambda value: isinstance(value, dict))
_LIST: _Kind = (f"a list of {_STATUSES}", lambda value: isinstance(value, list) and all(map(_STATUS[1], value)))

_FACTS = {"status": _STATUS, "jvps": _COUNT, "vjps": _COUNT, "seconds": _FROM_0, "metadata": _OBJECT}
# Of the metadata: what is used. Anything else may be there and be anything.
_METADATA = {
    "model": _TEXT,
    "model_identity": _TEXT,
    "layer": _TEXT,
    "grid": _TEXT,
    "method": _TEXT,
    "stop": _TEXT,
    "vectors": _TEXT,
    "timestep": _FROM_0,
    "t": _FRACTION,
    "num_inference_steps": _POSITIVE,
    "tol": _FROM_0,
    "block_size": _POSITIVE,
    "passes": _COUNT,
    "mask_pixels": _COUNTS,
}


def check_facts(facts: Mapping[str, Any], schema: int) -> None:
    """Raise unless facts are those of a basis, each of its kind."""
    kinds = dict(_FACTS) if schema == 1 else {**_FACTS, "point_status": _LIST}
    if set(facts) != set(kinds):
        raise ValueError(f"facts must be {sorted(kinds)}, got {sorted(facts)}")
    _check_kinds("", facts, kinds)
    metadata = facts["metadata"]
    _check_kinds("metadata: ", metadata, {name: kind for name, kind in _METADATA.items() if name in metadata})
    if "num_inference_steps" in metadata and "t" not in metadata:
        raise ValueError(f"metadata must have t beside num_inference_steps, got {sorted(metadata)}")


def _check_kinds(where: str, values: Mapping[str, Any], kinds: Mapping[str, _Kind]) -> None:
    for name, (expected, fits) in kinds.items():
        if not fits(values[name]):
            raise ValueError(f"{where}{name} must be {expected}, got {str(values[name])[:50]!r}")


def check_shapes(entries: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], facts: Mapping[str, Any]) -> None:
    """Raise unless types and shapes of tensors fit together."""
    bounds = {f"{PREFIX}{name}" for name in Certificate.names()}
    if set(entries) not in ({*TENSORS}, {*TENSORS, *bounds}):
        raise ValueError(f"tensors must be {list(TENSORS)}, with or without a certificate, got {sorted(entries)}")
    dtypes = {entries[name][0] for name in TENSORS}
    if len(dtypes) > 1 or not dtypes <= TOLERANCES.keys():
        raise ValueError(f"tensors must be of one floating type, got {[str(entries[name][0]) for name in TENSORS]}")
    shapes = {name: shape for name, (_, shape) in entries.items()}
    values = shapes["s"]
    if len(values) not in (1, 2) or 0 in values:
        raise ValueError(f"s must have shape [k] or [B, k], got {list(values)}")
    if shapes["residuals"] != values:
        raise ValueError(f"residuals must have the shape of s, {list(values)}, got {list(shapes['residuals'])}")
    for name in ("v", "u"):
        rows = shapes[name]
        if rows[: len(values)] != values or values[-1] > math.prod(rows[len(values) :]):
            raise ValueError(f"{name} must hold {list(values)} rows that can be orthogonal, got shape {list(rows)}")
    points = values[0] if len(values) == 2 else 1
    if len(facts.get("point_status", ())) not in (0, points):
        raise ValueError(f"point_status must be one a point, {points}, got {len(facts['point_status'])}")
    for name in sorted(bounds & set(entries)):
        expected = values if name.removeprefix(PREFIX) in ("left_residuals", "s_error") else values[:-1]
        if entries[name] != (torch.float64, expected):
            found = f"{entries[name][0]} {list(shapes[name])}"
            raise ValueError(f"{name} must be torch.float64 of shape {list(expected)}, got {found}")


def check_values(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], schema: int) -> None:
    """Raise unless s is descending from 0 on and rows are orthonormal.

    Where s is 0, a row may be 0. Rows u of ``vectors="park2023"`` are of unit length or 0, not orthogonal. The
    metadata name those vectors, ``"paper"`` in older files, and say nothing of them before schema 3.
    """
    for name in ("s", "v", "u"):
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(f"{name} must be finite, got NaN or Inf")
    s = tensors["s"]
    if bool((s < 0).any()) or bool((s[..., 1:] > s[..., :-1]).any()):
        raise ValueError("s must be descending, from 0 on")
    for name in ("residuals", *(f"{PREFIX}{name}" for name in Certificate.names())):
        if name in tensors:
            _check_bound(name, tensors[name])
    metadata = facts["metadata"]
    slanted = metadata.get("vectors") in ("park2023", "paper") or (schema < 3 and metadata.get("method") == "subspace")
    null = s.reshape(-1, s.shape[-1]) == 0
    for name in ("v", "u"):
        rows = tensors[name].reshape(*null.shape, -1)
        for point, zero in zip(rows, null, strict=True):
            _check_rows(name, point, zero, orthogonal=name == "v" or not slanted)


def _check_bound(name: str, values: torch.Tensor) -> None:
    """Bounds are numbers from 0, infinite where nothing is known; the gap may be negative."""
    if bool(values.isnan().any()) or (name != f"{PREFIX}gap" and bool((values < 0).any())):
        raise ValueError(f"{name} must be numbers from 0, got NaN or negative ones")


def _check_rows(name: str, rows: torch.Tensor, null: torch.Tensor, *, orthogonal: bool) -> None:
    tolerance = TOLERANCES[rows.dtype]
    wide = rows if rows.dtype in (torch.float64, torch.float32) else rows.float()
    gram = wide @ wide.mT
    length = gram.diagonal()
    may_vanish = null if orthogonal else torch.ones_like(null)
    expected = torch.where(may_vanish & (length == 0), 0.0, 1.0).to(gram)
    difference = gram - expected.diag() if orthogonal else length - expected
    worst = difference.abs().amax().item()
    if not worst <= tolerance:
        kind = "orthonormal" if orthogonal else "of unit length"
        raise ValueError(f"rows of {name} must be {kind} to {tolerance:g}, got a difference of {worst:.2g}")
