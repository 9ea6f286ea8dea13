"""Sliders as plain values and tensors, and back: what their files hold."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from latentjac.arguments import shown
from latentjac.editing.masks import Mask
from latentjac.editing.methods import Method, Reestimation
from latentjac.editing.slider_checks import SAVED_CARRIES, SAVED_METHODS

if TYPE_CHECKING:
    from latentjac.editing.slider import Slider

KIND = "slider"
TENSORS = ("direction", "features", "mask", "preview")
FACTS = (
    "level", "change", "tolerance", "values", "distances", "changes", "linear", "radius", "leakage", "others",
    "cosines", "method", "carry", "mask", "metadata",
)  # fmt: skip
_THUMBNAIL = 96  # pixels


def preview_of(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """The bytes of a PNG with pictures side by side, small, uint8 ``[n]``; none of none."""
    if not pictures:
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    small = [picture.convert("RGB") for picture in pictures]
    for picture in small:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    width, height = small[0].size
    strip = Image.new("RGB", (width * len(small), height))
    for i, picture in enumerate(small):
        strip.paste(picture, (i * width, 0))
    content = io.BytesIO()
    strip.save(content, "PNG")
    return torch.from_numpy(np.frombuffer(content.getvalue(), np.uint8).copy())


def picture_of(preview: torch.Tensor) -> Image.Image | None:
    """The picture that :func:`preview_of` wrote; None of no bytes."""
    if not preview.numel():
        return None
    picture = Image.open(io.BytesIO(preview.numpy().tobytes()), formats=("PNG",))
    picture.load()
    return picture


def tensors_of(slider: Slider) -> dict[str, torch.Tensor]:
    """Tensors of a file; those that a slider has not are empty."""
    mask = torch.empty(0, dtype=torch.bool, device="cpu") if slider.mask is None else slider.mask.pixels
    features = slider.direction.new_empty(0) if slider.features is None else slider.features
    return {"direction": slider.direction, "features": features, "mask": mask, "preview": slider.preview}


def facts_of(slider: Slider) -> dict[str, Any]:
    """Facts of a file, all plain values."""
    plain = {name: getattr(slider, name) for name in FACTS if name not in ("method", "carry", "mask")}
    mask = slider.mask
    return {
        **plain,
        "method": {"name": type(slider.method).__name__, **asdict(slider.method)},  # type: ignore[call-overload]
        "carry": {"name": type(slider.carry).__name__, **asdict(slider.carry)},  # type: ignore[call-overload]
        "mask": mask and {"null_rank": mask.null_rank, "null_energy": mask.null_energy, "tol": mask.tol},
        "schedule": slider.schedule.to_dict(),
    }


def fields_of(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a slider but schedule and conditioning, from a file; raises where values are of another kind."""
    direction, features, inside, preview = (tensors[name] for name in TENSORS)
    if not direction.is_floating_point() or not features.is_floating_point():
        raise ValueError("direction and features must be floating-point tensors")
    if (facts["mask"] is None) != (inside.numel() == 0):
        raise ValueError("mask must have a tensor and options, or neither")
    rows = {name: None if (value := facts[name]) is None else _numbers(name, value) for name in _ROWS}
    others = facts["others"]
    if others is not None and not isinstance(others, list):
        raise ValueError(f"others must be a list of lists of numbers, got {shown(others)}")
    return {
        "direction": direction,
        "features": features if features.numel() else None,
        "preview": preview,
        "mask": None if facts["mask"] is None else Mask(inside, **_options("mask", facts["mask"])),
        "method": _method(facts["method"]),
        "carry": _named("carry", facts["carry"], SAVED_CARRIES),
        "others": None if others is None else tuple(_numbers("others", row) for row in others),
        **{name: facts[name] for name in ("level", "change", "tolerance", "radius", "metadata")},
        **rows,
    }


_ROWS = ("values", "distances", "changes", "linear", "leakage", "cosines")


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """A list of numbers; what JSON has no numbers for are texts in it."""
    if not isinstance(values, list) or not all(type(v) in (int, float) or v in ("Infinity", "NaN") for v in values):
        raise ValueError(f"{name} must be a list of numbers, got {shown(values)}")
    numbers = tuple(map(float, values))
    if any(math.isnan(number) for number in numbers):
        raise ValueError(f"{name} must be numbers, got NaN")
    return numbers


def _options(name: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{name} must be a mapping of options, got {shown(values)}")
    return dict(values)


def _method(values: Any) -> Method:
    options = _options("method", values)
    if isinstance(options.get("reestimate"), dict):
        options["reestimate"] = Reestimation(**options["reestimate"])
    return _named("method", options, SAVED_METHODS)  # type: ignore[no-any-return]


def _named(name: str, values: Any, kinds: Mapping[str, type]) -> Any:
    """An object of one of some kinds, from its name and options; raises where it is none."""
    options = _options(name, values)
    kind = options.pop("name", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{name} must be one of {sorted(kinds)}, got {shown(kind)}")
    return kinds[kind](**options)
