"""The items of a run: photos, prompts, seeds and classes from a folder, a list of files or a table."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentjac.arguments import check_kind, check_text, shown
from latentjac.batch.folder import MANIFEST
from latentjac.batch.stored import Stored, rows_of_tars, table_of_dataset
from latentjac.files import FileError, open_file
from latentjac.report.extras import require_pyarrow
from latentjac.strict_json import from_json, readable, to_json

# Of a table: what each column means to a run, with the types it may have.
OWN = ("id", "photo", "prompt", "seed", "class")
_TEXT, _WHOLE = ("id", "photo", "prompt"), ("seed", "class")
_LONGEST_ID, _LARGEST_NUMBER = 500, 2**63 - 1
_AT_ONCE = 4096  # rows
_TABLES = (".jsonl", ".parquet")
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
    """

    id: str
    photo: Path | None
    prompt: str | None
    seed: int | None
    label: int | None
    own: dict[str, Any]
    stored: Stored | None = None

    @property
    def is_told(self) -> bool:
        """Whether it has a prompt or a class of its own."""
        return self.prompt is not None or self.label is not None

    @property
    def digest(self) -> str:
        """Short hash of what it is computed from, but for the content of the photo."""
        photo = None if self.photo is None else self.photo.name
        return hashlib.sha256(json.dumps([photo, self.prompt, self.seed, self.label]).encode()).hexdigest()[:16]


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
        if not len(table):
            raise ValueError("items: there must be at least one, got none")
        ids = table.column("id").to_pylist()
        if len(set(ids)) < len(ids):
            seen: set[str] = set()
            twice = next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise ValueError(f"items: every id must be there once, got {shown(twice)} twice")
        empty = [i for i, pair in enumerate(self._starts()) if pair == (None, None)]
        if empty:
            raise ValueError(f"items: each must have a photo or a seed, got {shown(ids[empty[0]])} without both")

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
                yield Item(id, path, prompt, seed, label, carried, self._stored(number))

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
        source: A folder, whose pictures are the items; a file ``.jsonl`` or ``.parquet``, whose rows are; a list of
            picture files; ``.tar`` files in the layout of webdataset; or a mapping that names a data set of
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
        paths = [check_text("items", f"'items[{i}]'", str(path)) for i, path in enumerate(source)]
        return Items(_of_photos(paths), root)
    if isinstance(source, Mapping):
        table, stored = table_of_dataset(source, root)
        return Items(completed(table, None), root, stored)
    check_kind("items", "'items'", source, (str, Path), "a folder, a table or a list of picture files")
    if str(source).endswith(".tar"):
        rows, pictures = rows_of_tars(str(source), root)
        return Items(completed(_table_of(rows, Path(source)), Path(source)), root, pictures.__getitem__)
    place = root / Path(source).expanduser()
    if place.is_dir():
        return Items(_of_photos(_photos_in(place)), place)
    if place.suffix not in _TABLES:
        expected = f"a folder, a table ({' or '.join(_TABLES)}), a .tar file or a list of picture files"
        raise ValueError(f"items: 'items' must be {expected}, got {shown(str(source))}")
    read = _from_parquet if place.suffix == ".parquet" else _from_lines
    return Items(completed(read(place), place), place.parent)


def _photos_in(folder: Path) -> list[str]:
    """Picture files in a folder and those below, but no hidden ones, in the order of their names.

    Folders below it that a command wrote are left out: a run must not take its own pictures for further items.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".") and not (Path(place) / n / MANIFEST).exists()]
        kept = [name for name in names if Path(name).suffix.lower() in _PHOTOS and not name.startswith(".")]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in kept]
    if not found:
        raise ValueError(f"items: folder {str(folder)!r} must hold pictures ({', '.join(_PHOTOS)}), got none")
    return sorted(found)


def _of_photos(paths: list[str]) -> Any:
    import pyarrow

    unreadable = next((path for path in paths if readable(path) != path), None)
    if unreadable is not None:
        raise ValueError(f"items: names of files must be UTF-8, got {shown(unreadable)}")
    table = pyarrow.table({"id": pyarrow.array(paths, "string"), "photo": pyarrow.array(paths, "string")})
    return completed(table, None)


def _from_parquet(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_file("items", path) as file:
            return parquet.read_table(file)
    except pyarrow.ArrowException as error:
        raise FileError(f"items: {str(path)!r} must be a Parquet file, got {error}") from error


def _from_lines(path: Path) -> Any:
    """A table of a file with one JSON object a line; empty lines are left out."""
    rows: list[dict[str, Any]] = []
    with open_file("items", path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = from_json(line)
            except ValueError as error:
                raise FileError(f"items: line {number} of {str(path)!r} must be JSON, got {error}") from error
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise FileError(f"items: line {number} of {str(path)!r} must be a JSON object, got {kind}")
            rows.append(row)
    return _table_of(rows, path)


def _table_of(rows: list[dict[str, Any]], path: Path) -> Any:
    import pyarrow

    names = list(dict.fromkeys(name for row in rows for name in row))
    return pyarrow.table({name: _column(name, [row.get(name) for row in rows], path) for name in names})


def _column(name: str, values: list[Any], path: Path) -> Any:
    """Values of one kind as they are; others as JSON."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1 or not kinds <= {bool, int, float, str}:
        if name in OWN:
            found = sorted(kind.__name__ for kind in kinds)
            raise ValueError(f"items: column {name!r} of {str(path)!r} must be of one kind, got {found}")
        values = [None if value is None else to_json(value) for value in values]
    try:
        return pyarrow.array(values, None if kinds else "string")
    except (pyarrow.ArrowException, OverflowError) as error:
        raise ValueError(f"items: column {name!r} of {str(path)!r} must be of one kind, got {error}") from error


def completed(table: Any, path: Path | None) -> Any:
    """The columns that a run knows, each of its type, and behind them the others.

    Raises:
        ValueError: If a value is of another type.
    """
    import pyarrow

    names = table.column_names
    columns = {}
    for name in OWN:
        kind = pyarrow.string() if name in _TEXT else pyarrow.int64()
        values = _known(name, table.column(name), path) if name in names else [None] * len(table)
        columns[name] = pyarrow.array(values, kind)
    if "id" not in names:
        # Rows without photos have their numbers.
        photos = columns["photo"].to_pylist()
        columns["id"] = pyarrow.array([p if p is not None else str(i) for i, p in enumerate(photos, 1)], "string")
    return pyarrow.table({**columns, **{name: table.column(name) for name in names if name not in OWN}})


def _known(name: str, column: Any, path: Path | None) -> list[Any]:
    values = column.to_pylist()
    expected = "a text" if name in _TEXT else f"a whole number from 0 to {_LARGEST_NUMBER}"
    for i, value in enumerate(values):
        if name == "id" and type(value) is int:
            value = values[i] = str(value)
        fits = value is None if name != "id" else False
        if name in _TEXT and isinstance(value, str):
            fits = value == readable(value) and "\0" not in value and (name != "id" or 0 < len(value) <= _LONGEST_ID)
        elif name in _WHOLE and type(value) is int:
            fits = 0 <= value <= _LARGEST_NUMBER
        if not fits:
            place = f"row {i + 1}" if path is None else f"row {i + 1} of {str(path)!r}"
            raise ValueError(f"items: {name!r} in {place} must be {expected}, got {shown(value)}")
    return values
