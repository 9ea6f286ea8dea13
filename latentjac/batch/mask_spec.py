"""Masks of a spec: one picture for all items, or a column of their table with the picture of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentjac.arguments import check_text
from latentjac.batch.spec_values import NAME, digest_of, mapping, of_part
from latentjac.models.prepare import read_mask


@dataclass(frozen=True)
class MaskOf:
    """Where a step is meant to act: one of both is given.

    Attributes:
        file: Picture file for all items.
        digest: SHA-256 of that file.
        column: Column of the items' table with the picture file of each.
    """

    file: str | None = None
    digest: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        return f"{Path(self.file).name}" if self.file is not None else f"of column {self.column!r}"


def mask_of(part: str, value: Any, root: Path) -> MaskOf | None:
    """The mask of a step; None for None.

    Args:
        part: The step, such as ``edits[0]``.
        value: What the spec has under ``mask`` there: a picture file, or ``{column: NAME}``.
        root: Folder that relative paths begin in.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        given = mapping(f"'{part}.mask'", value, {"column"})
        return MaskOf(column=check_text(NAME, f"'{part}.mask.column'", given.get("column")))
    if not isinstance(value, str):
        kind = type(value).__name__
        raise TypeError(f"{NAME}: '{part}.mask' must be a picture file or a mapping {{column: NAME}}, got {kind}")
    path = root / check_text(NAME, f"'{part}.mask'", value)
    with of_part(part, ("mask",)):
        read_mask(path, f"{NAME}: mask")
    return MaskOf(file=str(path), digest=digest_of(path))


def told(mask: MaskOf | None) -> dict[str, str] | None:
    """What decides of a mask what is computed: not where its file is."""
    if mask is None:
        return None
    return {"column": mask.column} if mask.column is not None else {"digest": str(mask.digest)}
