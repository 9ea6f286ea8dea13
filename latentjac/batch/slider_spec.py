"""Sliders of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from latentjac.arguments import check_choice, check_text
from latentjac.batch.mask_spec import MaskOf, mask_of
from latentjac.batch.spec_values import NAME, apart, digest_of, entries, mapping, number, of_part, several, switch
from latentjac.editing import AsIs, Carry, FromWords, Slider, Transported
from latentjac.editing.carrying import check_carried
from latentjac.editing.methods import BY_NAME as METHODS
from latentjac.files import FileError

CARRIES = {"as-is": AsIs, "transported": Transported, "words": FromWords}
SLIDER_PATHS = ("slider", "name")  # fields that change nothing but what things are called
_SLIDER = ("slider", "name", "values", "calibrate", "carry", "mask", "residual")


@dataclass(frozen=True)
class SliderOf:
    """One slider, applied to every item.

    Attributes:
        slider: File of the slider.
        name: What it is called in results.
        digest: SHA-256 of that file.
        t: Fraction of T where it was made.
        method: Name of its method.
        values: Values in [-1, 1].
        calibrate: Find the scale of every item anew.
        carry: How the direction comes to the items: a name of ``CARRIES`` as ``name``, and its options; by default that
            of the slider.
        mask: Another mask than that of the slider.
        residual: Add to pictures of photos what the inversion misses of them.
    """

    slider: str
    name: str
    digest: str
    t: float
    method: str
    values: tuple[float, ...] = (1.0,)
    calibrate: bool = True
    carry: dict[str, Any] = field(default_factory=dict)
    mask: MaskOf | None = None
    residual: bool = True

    def built(self) -> Carry | None:
        """How the direction comes to the items, with its options; None for that of the slider."""
        return _built(self.carry)


def sliders_of(value: Any, root: Path) -> tuple[SliderOf, ...]:
    """The sliders of a spec.

    Args:
        value: What it has under ``sliders``.
        root: Folder that relative paths begin in.
    """
    return tuple(_slider(part, entry, root) for part, entry in entries("sliders", value))


def _slider(part: str, value: Any, root: Path) -> SliderOf:
    given = mapping(f"'{part}'", value, set(_SLIDER))
    path = root / check_text(NAME, f"'{part}.slider'", given.get("slider"))
    saved = _saved(part, path)
    values = several(number(-1, 1, least=True, most=True))(f"'{part}.values'", given.get("values", 1.0))
    carry = _carry(f"{part}.carry", given.get("carry"))
    if (built := _built(carry)) is not None:
        with of_part(part, ("carry",)):
            check_carried("apply", saved, built)
    return SliderOf(
        slider=str(path),
        name=check_text(NAME, f"'{part}.name'", given.get("name", path.stem)),
        digest=digest_of(path),
        t=saved.t,
        method=next(name for name, kind in METHODS.items() if isinstance(saved.method, kind)),
        values=apart(f"'{part}.values'", values),
        calibrate=switch(f"'{part}.calibrate'", given.get("calibrate", True)),
        carry=carry,
        mask=mask_of(part, given.get("mask"), root),
        residual=switch(f"'{part}.residual'", given.get("residual", True)),
    )


def _saved(part: str, path: Path) -> Slider:
    try:
        return Slider.load(path)
    except (FileNotFoundError, FileError, ValueError) as error:
        raise ValueError(f"{NAME}: '{part}.slider' must be a saved slider, got {str(path)!r}: {error}") from error


def _carry(part: str, value: Any) -> dict[str, Any]:
    """A name of ``CARRIES``, alone or with options, as a mapping; empty for None."""
    if value is None:
        return {}
    given = {"name": value} if isinstance(value, str) else value
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping):
        raise TypeError(f"{NAME}: '{part}' must be a name or a mapping with one, got {type(given).__name__}")
    kind = CARRIES[check_choice(NAME, f"'{part}.name'", name, list(CARRIES))]
    own = {f.name for f in fields(kind)}
    found = mapping(f"'{part}'", given, {"name", *own})
    if kind is FromWords:
        check_text(NAME, f"'{part}.prompt'", found.get("prompt"))
    with of_part(part, own):
        _built(found)
    return found


def _built(carry: Mapping[str, Any]) -> Carry | None:
    if not carry:
        return None
    made: Carry = CARRIES[carry["name"]](**{name: value for name, value in carry.items() if name != "name"})
    return made
