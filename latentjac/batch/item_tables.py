"""Tables of items: read from files of several kinds, with the columns that a run knows in their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentjac.arguments import shown
from latentjac.files import FileError, open_file
from latentjac.public import warn
from latentjac.strict_json import from_json, readable, to_json

# What each column means to a run, with the types it may have.
OWN = ("id", "photo", "prompt", "seed", "class")
_TEXT, _WHOLE = ("id", "photo", "prompt"), ("seed", "class")
_LONGEST_ID, _LARGEST_NUMBER = 4096, 2**63 - 1
TABLES = (".jsonl", ".csv", ".parquet")


def read_table(path: Path) -> Any:
    """The table of a file, as it is there.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it is no such table.
    """
    readers = {".jsonl": _from_lines, ".csv": _from_csv, ".parquet": _from_parquet}
    return readers[path.suffix](path)


def _from_parquet(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_file("items", path) as file:
            return parquet.read_table(file)
    except pyarrow.ArrowException as error:
        raise FileError(f"items: {str(path)!r} must be a Parquet file, got {error}") from error


def _from_csv(path: Path) -> Any:
    """A table of a file with names in the first line; what is empty is missing."""
    import pyarrow
    from pyarrow import csv

    converted = csv.ConvertOptions(
        column_types={name: pyarrow.string() for name in _TEXT},
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        with open_file("items", path) as file:
            return csv.read_csv(
                file, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=converted
            )
    except pyarrow.ArrowException as error:
        raise FileError(f"items: {str(path)!r} must be a CSV file in UTF-8, got {error}") from error


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
    return table_of(rows, path)


def table_of(rows: list[dict[str, Any]], path: Path) -> Any:
    """A table of rows of their own; columns of several kinds are JSON.

    Raises:
        ValueError: If a column that a run knows is of several kinds.
    """
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
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        place = "" if path is None else f" of {str(path)!r}"
        raise ValueError(f"items: columns{place} must have different names, got {shown(twice)} twice")
    _tell_of_other_spellings(names)
    columns = {}
    for name in OWN:
        kind = pyarrow.string() if name in _TEXT else pyarrow.int64()
        values = _known(name, table.column(name), path) if name in names else [None] * len(table)
        columns[name] = pyarrow.array(values, kind)
    if "id" not in names:
        # Rows without photos have their numbers.
        photos = columns["photo"].to_pylist()
        columns["id"] = pyarrow.array([p if p is not None else str(i) for i, p in enumerate(photos, 1)], "string")
    own = {name: _without_view(table.column(name)) for name in names if name not in OWN}
    return pyarrow.table({**columns, **own})


def _tell_of_other_spellings(names: list[str]) -> None:
    """Warn of columns that are likely meant for known ones: their prompts or classes would be left out silently."""
    for name in names:
        known = name.strip().lower()
        if known in OWN and known not in names:
            warn(f"items: column {name!r} is carried through, as own ones are; what a run reads is called {known!r}")


def _without_view(column: Any) -> Any:
    """A column of texts or bytes in the layout that rows can be taken of."""
    import pyarrow

    plain = {pyarrow.string_view(): pyarrow.large_string(), pyarrow.binary_view(): pyarrow.large_binary()}
    return column.cast(plain[column.type]) if column.type in plain else column


def _known(name: str, column: Any, path: Path | None) -> list[Any]:
    values = column.to_pylist()
    expected = "a text" if name in _TEXT else f"a whole number from 0 to {_LARGEST_NUMBER}"
    expected += f" of at most {_LONGEST_ID} characters" if name == "id" else ""
    if name in _WHOLE:
        values = [whole(value) for value in values]
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


def whole(value: Any) -> Any:
    """A number as it was meant: where some are missing, many programs write NaN, and with it floats for whole ones."""
    if not isinstance(value, float):
        return value
    return None if value != value else int(value) if value.is_integer() else value


def is_text(kind: Any) -> bool:
    """Whether a type of Arrow is one of text, or of values that are all missing."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))
