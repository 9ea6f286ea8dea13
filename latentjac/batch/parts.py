"""Parts of the output: some finished items with their rows, bases and pictures, written whole or not at all."""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.batch.basis_files import bases_file
from latentjac.batch.folder import RunFolder, naming, remove
from latentjac.batch.spec import MOST_BASES
from latentjac.batch.tars import tar_file
from latentjac.files import FileError, open_file, sync_folder, write_bytes
from latentjac.solvers import LocalBasis
from latentjac.strict_json import to_json

# A part ends when one of these is reached: what a killed run can lose.
MOST_ITEMS = 256
MOST_SECONDS = 60.0
MOST_BYTES = 2**28
FINGERPRINT = b"latentjac-run"  # key of the metadata of tables

# Columns of tables, each with its type in Arrow's words; behind them come the own ones of the items.
COLUMNS = {
    "id": "string",
    "photo": "string",
    "prompt": "string",
    "seed": "int64",
    "class": "int64",
    "item": "string",
    "part": "string",
    "attempt": "int32",
    "step": "string",
    "number": "int32",
    "t": "float64",
    "layer": "string",
    "status": "string",
    "error": "string",
    "seconds": "float64",
    "timestep": "float64",
    "psnr": "float64",
    "evaluations": "int64",
    "inversion": "string",
    "singular_values": "list",
    "residuals": "list",
    "jvps": "int64",
    "vjps": "int64",
    "basis": "int32",
    "energy": "float64",
    "participation": "float64",
    "stable": "float64",
    "entropy": "float64",
    "numerical": "float64",
    "method": "string",
    "directions": "list",
    "distance": "list",
    "num_steps": "int64",
    "linear_up_to": "list",
    "path": "list",
    "slider": "string",
    "values": "list",
    "changes": "list",
    "calibrated": "flags",
    "linear": "list",
    "leakage": "list",
    "retained": "float64",
    "pictures": "texts",
}


_Row = dict[str, Any]  # values by column


@dataclass
class Result:
    """What a step gave for an item.

    Attributes:
        row: Values of columns; those that are missing are empty.
        basis: A basis to keep.
        pictures: Pictures to keep, with what each is called.
    """

    row: dict[str, Any]
    basis: LocalBasis | None = None
    pictures: list[tuple[str, Image.Image]] = field(default_factory=list)


@dataclass(frozen=True)
class _Entry:
    """A finished item, its pictures encoded."""

    facts: dict[str, Any]
    results: Sequence[Result]
    pictures: Sequence[list[tuple[str, bytes]]]

    @property
    def size(self) -> int:
        """Bytes on the disk, about."""
        bases = (result.basis for result in self.results if result.basis is not None)
        pictures = (content for entry in self.pictures for _, content in entry)
        return sum(basis.v.nbytes + basis.u.nbytes for basis in bases) + sum(map(len, pictures))


class Part:
    """Collects finished items until it is written.

    Attributes:
        name: Of its files; given when it is about to be written.

    Args:
        own: Arrow's types of own columns of the items, by name.
        tarred: Whether pictures go into one file.
    """

    def __init__(self, own: dict[str, Any], *, tarred: bool = False) -> None:
        self.name, self._own, self._tarred = "", own, tarred
        self._entries: list[_Entry] = []
        self._bytes, self._bases, self._begun = 0, 0, time.monotonic()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """Its items, each with the number of its attempt."""
        return [(entry.facts["id"], entry.facts["attempt"]) for entry in self._entries]

    @property
    def full(self) -> bool:
        """Whether it is to be written now."""
        reached = len(self) >= MOST_ITEMS or self._bytes >= MOST_BYTES or 2 * self._bases >= MOST_BASES
        return reached or (len(self) > 0 and time.monotonic() - self._begun >= MOST_SECONDS)

    def add(self, facts: dict[str, Any], results: Sequence[Result]) -> None:
        """Take up an item with what all steps gave: whole, or not at all where this is interrupted.

        Args:
            facts: Columns that are the same in all its rows.
            results: One a step.
        """
        pictures = [[(name, encoded(image)) for name, image in result.pictures] for result in results]
        entry = _Entry(facts, results, pictures)
        self._bytes += entry.size
        self._bases += sum(result.basis is not None for result in results)
        self._entries.append(entry)

    def _laid_out(self) -> tuple[list[_Row], list[tuple[_Row, LocalBasis]], list[tuple[str, bytes]]]:
        """Rows, bases with their places, and pictures with their names."""
        rows: list[_Row] = []
        bases: list[tuple[_Row, LocalBasis]] = []
        pictures: list[tuple[str, bytes]] = []
        for number, entry in enumerate(self._entries):
            for result, drawn in zip(entry.results, entry.pictures, strict=True):
                row = {**entry.facts, "part": self.name, **result.row}
                if result.basis is not None:
                    row["basis"] = len(bases)
                    bases.append(({name: row[name] for name in ("id", "t", "layer")}, result.basis))
                if drawn:
                    begin = f"{self.name}-{number:03d}." if self._tarred else f"{number:03d}-"
                    row["pictures"] = [f"{begin}{name}.png" for name, _ in drawn]
                    pictures += zip(row["pictures"], (content for _, content in drawn), strict=True)
                rows.append(row)
        return rows, bases, pictures

    def write(self, folder: RunFolder, fingerprint: str) -> None:
        """Write pictures, bases and, when they are on the disk, the table, without which the others do not count.

        Raises:
            OSError: If it cannot be written; nothing of it is there then.
        """
        rows, bases, pictures = self._laid_out()
        try:
            if pictures and self._tarred:
                write_bytes(folder.tar(self.name), tar_file(self._samples(pictures)))
            elif pictures:
                self._write_files(folder.pictures(self.name), pictures)
            if bases:
                write_bytes(folder.bases(self.name), bases_file(bases))
            write_bytes(folder.table(self.name), self._table(rows, fingerprint))
        except BaseException:
            # The table first: without it nothing else counts.
            kinds = (folder.table, folder.bases, folder.pictures, folder.tar)
            for entry in (kind(self.name) for kind in kinds):
                with suppress(OSError):
                    remove(entry)
            raise

    def _write_files(self, place: Path, pictures: Sequence[tuple[str, bytes]]) -> None:
        with naming(place):
            place.mkdir(exist_ok=True)
            sync_folder(place.parent)
        for name, content in pictures:
            write_bytes(place / name, content)

    def _samples(self, pictures: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Pictures by items, and behind those of each its facts as JSON."""
        found: list[tuple[str, bytes]] = []
        for number, entry in enumerate(self._entries):
            begin = f"{self.name}-{number:03d}."
            own = [(name, content) for name, content in pictures if name.startswith(begin)]
            facts = to_json(entry.facts, default=str).encode()
            found += [*own, (f"{begin}json", facts)] if own else []
        return found

    def _table(self, rows: list[dict[str, Any]], fingerprint: str) -> bytes:
        import pyarrow
        from pyarrow import parquet

        kinds = {name: arrow_type(kind) for name, kind in COLUMNS.items()} | self._own
        columns = {name: pyarrow.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()}
        table = pyarrow.table(columns).replace_schema_metadata({FINGERPRINT: fingerprint.encode()})
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(table, sink)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def encoded(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def attempts_of(table: Any) -> Any:
    """The numbers of attempts of rows; 1 in tables that do not have them."""
    import pyarrow
    import pyarrow.compute as compute

    if "attempt" not in table.column_names:
        return pyarrow.chunked_array([pyarrow.array([1] * len(table), "int32")])
    return compute.fill_null(table.column("attempt"), 1)


def arrow_type(kind: str) -> Any:
    """The type of a word in ``COLUMNS``."""
    import pyarrow

    entries = {"list": pyarrow.float64(), "texts": pyarrow.string(), "flags": pyarrow.bool_()}
    return pyarrow.list_(entries[kind]) if kind in entries else pyarrow.type_for_alias(kind)


def read_part(folder: RunFolder, part: str, fingerprint: str, columns: Collection[str] | None = None) -> Any:
    """The table of a part, or some of its columns; those that it does not have are left out.

    Raises:
        FileError: If it is no table, or of another run.
    """
    import pyarrow
    from pyarrow import parquet

    path = folder.table(part)
    try:
        with open_file("open", path) as file:
            opened = parquet.ParquetFile(file)
            found = (opened.schema_arrow.metadata or {}).get(FINGERPRINT, b"").decode(errors="replace")
            if found != fingerprint:
                raise FileError(f"open: {str(path)!r} must be of the run of this folder, got a table of another run")
            known = opened.schema_arrow.names
            wanted = None if columns is None else [name for name in columns if name in known]
            return opened.read(wanted, use_threads=False)  # a part is small
    except (pyarrow.ArrowException, OSError) as error:
        hint = "where it is removed, its items are done again"
        raise FileError(f"open: {str(path)!r} must be a table of a run, got {error}; {hint}") from error


def joined_tables(tables: list[Any]) -> Any:
    """The rows of several parts as one table."""
    import pyarrow

    return pyarrow.concat_tables(_alike(tables), promote_options="permissive").replace_schema_metadata(None)


def _alike(tables: list[Any]) -> list[Any]:
    """Tables whose own columns can be joined.

    Where items were added whose column is of another kind, as the first text in a column of numbers, it is one of
    texts: values that are none are written as JSON has them.
    """
    import pyarrow

    kinds: dict[str, dict[Any, None]] = {}
    for table in tables:
        for entry in table.schema:
            if entry.name not in COLUMNS:
                kinds.setdefault(entry.name, {})[entry.type] = None
    mixed = [name for name, found in kinds.items() if len(found) > 1 and not _joins(name, list(found))]
    found = []
    for table in tables:
        for name in mixed:
            if name in table.column_names:
                values = [_as_text(value) for value in table[name].to_pylist()]
                place = table.column_names.index(name)
                table = table.set_column(place, name, pyarrow.array(values, "string"))
        found.append(table)
    return found


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else to_json(value, default=str)


def _joins(name: str, kinds: list[Any]) -> bool:
    import pyarrow

    try:
        pyarrow.unify_schemas([pyarrow.schema([(name, kind)]) for kind in kinds], promote_options="permissive")
    except pyarrow.ArrowException:
        return False
    return True
