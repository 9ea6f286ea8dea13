"""What the fields of a slider have to be; files are read through these checks too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import (
    check_dense,
    check_int,
    check_kind,
    check_number,
    check_sequence,
    check_tensor,
    is_number,
    shown,
)
from latentjac.diffusion import Schedule
from latentjac.edit_options import LEAST_CHANGE
from latentjac.editing.arguments import set_checked
from latentjac.editing.carrying import AsIs, Carry, FromWords, Transported
from latentjac.editing.masks import Mask
from latentjac.editing.methods import Geodesic, Guidance, HSpace, Linear, Method
from latentjac.editing.result import Edit
from latentjac.models import Conditioning

if TYPE_CHECKING:
    from latentjac.editing.slider import Slider

SAVED_METHODS = {kind.__name__: kind for kind in (Guidance, Linear, Geodesic, HSpace)}
SAVED_CARRIES = {kind.__name__: kind for kind in (AsIs, Transported, FromWords)}
_NAME = "Slider"
_LARGEST_PREVIEW = 4 * 2**20  # bytes
_ROUNDING = 1e-2  # of unit vectors in 16 bits
_MOST_COSINE = 1 + 1e-6


def check_fields(slider: Slider) -> None:
    """Raise unless all fields are what they have to be; they get their plain forms."""
    _check_kinds(slider)
    set_checked(
        slider,
        direction=_direction(slider.direction),
        features=None if slider.features is None else check_tensor(_NAME, "features", slider.features),
        change=check_change(_NAME, slider.change),
        tolerance=check_tolerance(_NAME, slider.tolerance),
        radius=check_number(_NAME, "radius", slider.radius, 0, least=True, optional=True),
        level=check_int(_NAME, "level", slider.level, 1, slider.schedule.top),
        linear=None if slider.linear is None else _row("linear", slider.linear, -1, 1, 2),
        cosines=_row("cosines", slider.cosines, -_MOST_COSINE, _MOST_COSINE, 2),
        others=_others(slider.others),
        preview=_preview(slider.preview),
        **_calibration(slider),
    )


def check_change(function: str, change: Any) -> float:
    """The RMS change of a value of 1, if it can be measured."""
    return float(check_number(function, "change", change, LEAST_CHANGE, least=True))


def check_tolerance(function: str, tolerance: Any) -> float:
    """The largest error of a change, as a part of it; with a half the picture at half value could be unchanged."""
    return float(check_number(function, "tolerance", tolerance, 0, 0.5))


def saved_method(function: str, method: Method) -> Method:
    """The method; raises unless files can hold it."""
    if type(method) not in SAVED_METHODS.values():
        raise TypeError(f"{function}: method must be one of {sorted(SAVED_METHODS)}, got {type(method).__name__}")
    return method


def saved_carry(function: str, carry: Any) -> Carry:
    """The choice of how a direction is carried; raises unless files can hold it."""
    if type(carry) not in SAVED_CARRIES.values():
        got = carry.__name__ if isinstance(carry, type) else type(carry).__name__
        raise TypeError(f"{function}: carry must be one of {sorted(SAVED_CARRIES)}, got {got}")
    return carry  # type: ignore[no-any-return]


def _check_kinds(slider: Slider) -> None:
    saved_method(_NAME, slider.method)
    saved_carry(_NAME, slider.carry)
    check_kind(_NAME, "mask", slider.mask, Mask, "a latentjac.editing.Mask", optional=True)
    check_kind(_NAME, "edit", slider.edit, Edit, "a latentjac.Edit", optional=True)
    check_kind(_NAME, "schedule", slider.schedule, Schedule, "a latentjac.diffusion.Schedule")
    check_kind(_NAME, "conditioning", slider.conditioning, Conditioning, "a latentjac.Conditioning")
    names = check_kind(_NAME, "metadata", slider.metadata, dict, "a dict")
    if not all(isinstance(names.get(name), str) for name in ("model", "model_identity")):
        raise ValueError(f"{_NAME}: metadata must name a model and its model_identity, got {shown(names)}")


def _direction(direction: Any) -> torch.Tensor:
    direction = check_tensor(_NAME, "direction", direction)
    length = float(direction.double().norm())
    if not abs(length - 1) <= _ROUNDING:
        raise ValueError(f"{_NAME}: direction must be a unit vector, got one of length {length:.3g}")
    return direction


def _preview(preview: Any) -> torch.Tensor:
    preview = check_dense(_NAME, "preview", preview)
    if preview.dtype != torch.uint8 or preview.ndim != 1 or len(preview) > _LARGEST_PREVIEW:
        got = f"{preview.dtype} {list(preview.shape)}"
        raise ValueError(f"{_NAME}: preview must be at most {_LARGEST_PREVIEW} bytes, uint8 [n], got {got}")
    return preview


def _calibration(slider: Slider) -> dict[str, tuple[float, ...] | None]:
    """The rows that have one number for each value."""
    values = _row("values", slider.values, -1, 1)
    distances = _row("distances", slider.distances, count=len(values))
    if any(value * distance <= 0 for value, distance in zip(values, distances, strict=True)):
        raise ValueError(f"{_NAME}: distances must have the signs of values, none of them 0, got {shown(distances)}")
    changes = _row("changes", slider.changes, 0, count=len(values))
    return {"values": values, "distances": distances, "changes": changes, "leakage": _leakage(slider, len(values))}


def _leakage(slider: Slider, count: int) -> tuple[float, ...] | None:
    if slider.leakage is None:
        return None
    # Infinite where nothing changed inside.
    finite = [0.0 if is_number(v) and v == math.inf else v for v in _entries("leakage", slider.leakage, count)]
    _row("leakage", finite, 0)
    return tuple(map(float, slider.leakage))


def _others(others: Any) -> tuple[tuple[float, ...], ...] | None:
    if others is None:
        return None
    rows = _entries("others", others, 2, "rows of numbers")
    first, second = (_row("others", row, -_MOST_COSINE, _MOST_COSINE) for row in rows)
    if len(first) != len(second):
        raise ValueError(f"{_NAME}: others must be two rows of one length, got {len(first)} and {len(second)}")
    return first, second


def _row(
    name: str, values: Any, low: float = -math.inf, high: float = math.inf, count: int | None = None
) -> tuple[float, ...]:
    """Finite numbers between two, these included."""
    entries = _entries(name, values, count)
    return tuple(check_number(_NAME, name, v, low, high, least=low > -math.inf, most=high < math.inf) for v in entries)


def _entries(name: str, values: Any, count: int | None, of: str = "numbers") -> list[Any]:
    entries = check_sequence(_NAME, name, values, of)
    if count is not None and len(entries) != count:
        one = ", one for each of values" if name in ("distances", "changes", "leakage") else ""
        raise ValueError(f"{_NAME}: {name} must be {count} {of}{one}, got {len(entries)}")
    return entries
