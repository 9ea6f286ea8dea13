"""Edits of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_choice, check_number, check_text, is_number, shown
from latentjac.batch.mask_spec import MaskOf, mask_of
from latentjac.batch.spec_values import (
    NAME,
    apart,
    digest_of,
    entries,
    mapping,
    number,
    of_part,
    several,
    switch,
    whole,
)
from latentjac.edit_options import DISTANCE, FARTHEST
from latentjac.editing import Mask, Method
from latentjac.editing.methods import BY_NAME as METHODS
from latentjac.files import FileError
from latentjac.solvers import LocalBasis

if TYPE_CHECKING:
    from latentjac.batch.spec import Bases

EDIT_PATHS = ("basis",)  # fields that are paths
_SOME = torch.tensor([[True, False]])  # a mask, to check what goes with one


@dataclass(frozen=True)
class EditOf:
    """One edit of every item.

    Attributes:
        method: Name of the method.
        t: Fraction of T where it begins.
        layer: Of the basis that directions are taken from, and of the method.
        directions: Numbers of directions, from 1.
        distance: Signed distances.
        compose: Go along all directions at once, each with its own distance.
        basis: Saved basis that directions are taken from; by default the item's own.
        digest: SHA-256 of that file.
        options: Of the method.
        residual: Add to pictures of photos what the inversion misses of them.
        mask: Where it is meant to be.
        null_rank: How many directions of the rest no step takes; None for the default of a mask.
        null_energy: Instead: the part of the energy of the rest that they carry.
    """

    method: str
    t: float
    layer: str
    directions: tuple[int, ...]
    distance: tuple[float, ...]
    compose: bool = False
    basis: str | None = None
    digest: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    residual: bool = False
    mask: MaskOf | None = None
    null_rank: int | None = None
    null_energy: float | None = None

    def built(self) -> Method:
        """The method with its options."""
        return METHODS[self.method](layer=self.layer, **self.options)

    def masked(self, inside: torch.Tensor) -> torch.Tensor | Mask:
        """A mask, bool ``[H, W]``, as :func:`latentjac.edit` takes it."""
        if self.null_rank is None and self.null_energy is None:
            return inside
        return Mask(inside, null_rank=self.null_rank, null_energy=self.null_energy)


_NULL = ("null_rank", "null_energy")
_EDIT = ("method", "t", "layer", "directions", "distance", "compose", "basis", "residual", "mask", *_NULL)


def edits_of(value: Any, bases: Bases | None, root: Path) -> tuple[EditOf, ...]:
    """The edits of a spec.

    Args:
        value: What it has under ``edits``.
        bases: Its bases.
        root: Folder that relative paths begin in.
    """
    return tuple(_edit(part, entry, bases, root) for part, entry in entries("edits", value))


def _edit(part: str, value: Any, bases: Bases | None, root: Path) -> EditOf:
    name = value.get("method", "guidance") if isinstance(value, Mapping) else "guidance"
    kind = METHODS[check_choice(NAME, f"'{part}.method'", name, list(METHODS))]
    own = {f.name for f in fields(kind)} - {"layer"}
    given = mapping(f"'{part}'", value, {*_EDIT, *own})
    saved = None if given.get("basis") is None else _saved(part, given["basis"], root)
    t, layer = _place(part, given, bases, saved)
    directions = several(whole(1))(f"'{part}.directions'", given.get("directions", 1))
    most = bases.k if saved is None and bases is not None else 0 if saved is None else saved.k
    if max(directions) > most:
        raise ValueError(f"{NAME}: '{part}.directions' must be at most {most}, the basis' k, got {max(directions)}")
    compose = switch(f"'{part}.compose'", given.get("compose", False))
    distance = _distances(f"'{part}.distance'", given.get("distance", DISTANCE), compose, len(directions))
    found = EditOf(
        method=name,
        t=t,
        layer=layer,
        directions=directions,
        distance=distance,
        compose=compose,
        basis=None if saved is None else str(root / given["basis"]),
        digest=None if saved is None else digest_of(root / given["basis"]),
        options={option: given[option] for option in given if option in own},
        residual=switch(f"'{part}.residual'", given.get("residual", False)),
        mask=mask_of(part, given.get("mask"), root),
        **{name: given[name] for name in _NULL if name in given},
    )
    with of_part(part, own | {"layer"}):
        built = found.built()
    _check_null(part, found, built)
    return found


def _check_null(part: str, entry: EditOf, method: Method) -> None:
    """Raise where it cannot be that directions of the rest are taken out as asked for."""
    given = [name for name in _NULL if getattr(entry, name) is not None]
    if given and entry.mask is None:
        raise ValueError(f"{NAME}: '{part}.mask' must be given with '{part}.{given[0]}', got none")
    if given and not method.projects:
        raise ValueError(
            f"{NAME}: '{part}.{given[0]}' must be left out with method {entry.method!r}, which only measures"
        )
    with of_part(part, _NULL):
        entry.masked(_SOME)


def _distances(key: str, value: Any, compose: bool, count: int) -> tuple[float, ...]:
    check = number(-FARTHEST, FARTHEST)
    if not compose:
        return apart(key, several(check)(key, value))
    values = [value] if is_number(value) else value
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ValueError(f"{NAME}: {key} must be one number for each of {count} directions, got {shown(value)}")
    return tuple(check(key, entry) for entry in values)


def _saved(part: str, value: Any, root: Path) -> LocalBasis:
    path = check_text(NAME, f"'{part}.basis'", value)
    try:
        basis = LocalBasis.load(root / path)
    except (FileNotFoundError, FileError, ValueError) as error:
        raise ValueError(f"{NAME}: '{part}.basis' must be a saved basis, got {path!r}: {error}") from error
    if basis.points > 1:
        raise ValueError(f"{NAME}: '{part}.basis' must be of one point, got {basis.points}")
    return basis


def _place(part: str, given: Mapping[str, Any], bases: Bases | None, saved: LocalBasis | None) -> tuple[float, str]:
    """Where an edit begins: by default where the only basis is, or where the saved one was."""
    if saved is None and bases is None:
        raise ValueError(f"{NAME}: '{part}.basis' must be given without 'bases', got neither")
    facts = {} if saved is None else saved.metadata
    usual_t = facts.get("t") if saved is not None else bases.t[0] if bases is not None and len(bases.t) == 1 else None
    usual_layer = facts.get("layer", "mid") if saved is not None else bases.layer[0] if bases is not None else "mid"
    t, layer = given.get("t", usual_t), given.get("layer", usual_layer)
    t = check_number(NAME, f"'{part}.t'", t, 0, 1, least=True, most=True)
    layer = check_text(NAME, f"'{part}.layer'", layer)
    if saved is None and bases is not None:
        for key, entry, known in (("t", t, bases.t), ("layer", layer, bases.layer)):
            if entry not in known:
                raise ValueError(f"{NAME}: '{part}.{key}' must be one of 'bases.{key}' {list(known)}, got {entry!r}")
    return t, layer
