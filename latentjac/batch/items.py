"""The items of a run: photos, prompts, seeds and classes from a folder, a list of files or a table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentjac.arguments import check_kind, check_text, shown
from latentjac.batch.folder import MANIFEST
from latentjac.batch.item_tables import OWN, TABLES, completed, is_text, read_table, table_of
from latentjac.batch.stored import Stored, rows_of_tars, table_of_dataset
from latentjac.report.extras import require_pyarrow
from latentjac.strict_json import readable

_AT_ONCE = 4096  # rows
_PHOTOS = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".psd", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One thing that all steps are done for.

    Attributes:
        id: What it is called; no other item has the same.
        photo: Picture file; None for an item that is generated from its seed.
        prompt: Text; None for that of the spec.
        seed: Of the noise that it is generated from.
        label: Class; None for that of the spec.
        own: Further columns of its table, carried through to the results.
        stored: Its picture, where that is no file of its own.
        masks: Picture files of its own masks, by the columns that name them; None where one has none.
    """

    id: str
    photo: Path | None
    prompt: str | None
    seed: int | None
    label: int | None
    own: dict[str, Any]
    stored: Stored | None = None
    masks: dict[str, Path | None] = field(default_factory=dict)

    @property
    def is_told(self) -> bool:
        """Whether it has a prompt or a class of its own."""
        return self.prompt is not None or self.label is not None

    @property
    def digest(self) -> str:
        """Short hash of what it is computed from, but for the content of pictures."""
        photo = None if self.photo is None else self.photo.name
        masks = {column: None if path is None else path.name for column, path in self.masks.items()}
        facts = [photo, self.prompt, self.seed, self.label, *([masks] if masks else ())]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


class Items:
    """All items of a run, kept as columns.

    Args:
        table: Of pyarrow, with the columns ``OWN`` and others.
        root: Folder that paths of photos begin in.
        stored: Gives the picture of a row, by its number, where pictures are no files of their own.

    Raises:
        ValueError: If an id is there twice, or an item has neither a photo nor a seed; or there is none.
    """

    def __init__(self, table: Any, root: Path, stored: Callable[[int], Stored | None] = lambda row: None) -> None:
        self.table, self._root, self._stored = table, root, stored
        self._masks: tuple[str, ...] = ()
        if not len(table):
            raise ValueError("items: there must be at least one, got none")
        ids = table.column("id").to_pylist()
        if len(set(ids)) < len(ids):
            seen: set[str] = set()
            twice = next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise ValueError(f"items: every id must be there once, got {shown(twice)} twice")
        empty = [i for i, pair in enumerate(self._starts()) if pair == (None, None)]
        if empty:
            there = [name for name in table.column_names if table.column(name).null_count < len(table)]
            got = f"{shown(ids[empty[0]])} without both; columns with values are {there}"
            raise ValueError(f"items: each must have a photo or a seed, got {got}")

    def _starts(self) -> Iterator[tuple[Any, Any]]:
        return zip(*(self.table.column(name).to_pylist() for name in ("photo", "seed")), strict=True)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Item]:
        return self.at(range(len(self)))

    def at(self, numbers: Sequence[int]) -> Iterator[Item]:
        """The items of some rows, in their order; few of them are in memory at once."""
        own = [name for name in self.table.column_names if name not in OWN]
        for begin in range(0, len(numbers), _AT_ONCE):
            some = numbers[begin : begin + _AT_ONCE]
            rows = self.table.take(list(some))
            columns = [rows.column(name).to_pylist() for name in (*OWN, *own)]
            for number, (id, photo, prompt, seed, label, *rest) in zip(some, zip(*columns, strict=True), strict=True):
                path = None if photo is None else self._root / photo
                carried = dict(zip(own, rest, strict=True))
                named = {column: carried[column] for column in self._masks}
                masks = {column: None if name is None else self._root / name for column, name in named.items()}
                carried |= {column: None if mask is None else str(mask) for column, mask in masks.items()}
                yield Item(id, path, prompt, seed, label, carried, self._stored(number), masks)

    def take_masks(self, columns: Mapping[str, str]) -> None:
        """Have columns name masks.

        Args:
            columns: Names of columns, each with the key of the spec that names it.

        Raises:
            ValueError: If there is no such column, or it holds anything but text.
        """
        known = self.own_types
        for name, key in columns.items():
            if name not in known:
                raise ValueError(f"items: {key} must name one of their own columns {list(known)}, got {shown(name)}")
            kind = known[name]
            if not is_text(kind):
                raise ValueError(f"items: {key} must name a column of text, got {shown(name)}, which is of {kind}")
        self._masks = tuple(columns)

    @property
    def mask_columns(self) -> tuple[str, ...]:
        """Columns that name masks."""
        return self._masks

    @property
    def own_types(self) -> dict[str, Any]:
        """Arrow's types of own columns, by name."""
        return {field.name: field.type for field in self.table.schema if field.name not in OWN}

    def first(self, column: str) -> Any:
        """The first value of a column that is one; None where there is none."""
        return next((value for value in self.table.column(column).to_pylist() if value is not None), None)


def read_items(source: Any, root: Path) -> Items:
    """Items of a source.

    Args:
        source: A folder, whose pictures are the items; a file ``.jsonl``, ``.csv`` or ``.parquet``, whose rows are; a
            list of picture files; ``.tar`` files in the layout of webdataset; or a mapping that names a data set of
            ``datasets``.
        root: Folder that relative paths begin in; those in a table begin in the folder of the table.

    Raises:
        ImportError: If pyarrow is not installed, or datasets for a data set.
        TypeError: If source is none of these.
        FileNotFoundError: If there is no such file or folder.
        ValueError: If there is nothing in it, an id is there twice, or a column has values of another kind.
    """
    require_pyarrow()
    if isinstance(source, (list, tuple)):
        for i, path in enumerate(source):
            check_kind("items", f"'items[{i}]'", path, (str, Path), "a picture file; rows of a table go into a file")
        paths = [check_text("items", f"'items[{i}]'", str(path)) for i, path in enumerate(source)]
        return Items(_of_photos(paths), root)
    if isinstance(source, Mapping):
        table, stored = table_of_dataset(source, root)
        return Items(completed(table, None), root, stored)
    check_kind("items", "'items'", source, (str, Path), "a folder, a table or a list of picture files")
    if str(source).endswith(".tar"):
        rows, pictures = rows_of_tars(str(source), root)
        return Items(completed(table_of(rows, Path(source)), Path(source)), root, pictures.__getitem__)
    place = root / Path(source).expanduser()
    if place.is_dir():
        return Items(_of_photos(_photos_in(place)), place)
    if place.suffix not in TABLES:
        expected = f"a folder, a table ({', '.join(TABLES)}), a .tar file or a list of picture files"
        there = "" if place.exists() else f", and there is no {str(place)!r}"
        raise ValueError(f"items: 'items' must be {expected}, got {shown(str(source))}{there}")
    return Items(completed(read_table(place), place), place.parent)


def _photos_in(folder: Path) -> list[str]:
    """Picture files in a folder and those below, but no hidden ones, in the order of their names.

    Folders below it that a command wrote are left out: a run must not take its own pictures for further items.
    """
    found = [path.relative_to(folder).as_posix() for path in _photos_below(folder, ())]
    if not found:
        raise ValueError(f"items: folder {str(folder)!r} must hold pictures ({', '.join(_PHOTOS)}), got none")
    return sorted(found)


def _photos_below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Picture files below a folder, also through links, but for those that lead back to a folder above."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise ValueError(f"items: folder {str(folder)!r} must be readable, got {error.strerror}") from error
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if path.is_dir():  # not that of the entry, which raises for a link to itself
            if not (path / MANIFEST).exists():
                yield from _photos_below(path, (*above, real))
        elif path.suffix.lower() in _PHOTOS:
            yield path


def _of_photos(paths: list[str]) -> Any:
    import pyarrow

    unreadable = next((path for path in paths if readable(path) != path), None)
    if unreadable is not None:
        raise ValueError(f"items: names of files must be UTF-8, got {shown(unreadable)}")
    table = pyarrow.table({"id": pyarrow.array(paths, "string"), "photo": pyarrow.array(paths, "string")})
    return completed(table, None)
