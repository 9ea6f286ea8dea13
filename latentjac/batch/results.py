"""What a run has written, read back."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.arguments import check_kind, check_number, check_text, shown
from latentjac.batch.basis_files import read_basis
from latentjac.batch.folder import RunFolder, held
from latentjac.batch.parts import COLUMNS, arrow_type, attempts_of, joined_tables, read_part
from latentjac.batch.shards import RayShare, Shard
from latentjac.batch.tars import members
from latentjac.batch.work import ERROR, NOT_CONVERGED
from latentjac.diffusion.trajectory import InversionStatus
from latentjac.files import FileError
from latentjac.models.picture_files import identify, load_image
from latentjac.report.extras import require_pyarrow
from latentjac.solvers import LocalBasis

_INDEX = ("id", "step", "t", "layer", "status", "error", "seconds", "inversion", "part", "attempt", "basis", "pictures")
_OWN_TO_A_MESSAGE = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?[0-9][-+.0-9e]*")  # names and numbers
_MOST_ERRORS = 10
_LOST = InversionStatus.LOST.value
_PICTURE = "images: picture"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        items: All items of the run, when it was last started.
        done: Items whose rows are there, those with errors among them.
        with_errors: Items with a step that failed.
        not_converged: Items with a step that did not converge.
        lost: Items whose inversion leads back to another picture.
        rows: Rows of all tables.
        parts: Parts that were written.
        seconds: Time that all steps of all items took.
        retried: Items that were done again after an error.
        errors: The most frequent kinds of errors, each by the first of its kind, with the number of its rows; errors
            are of a kind that differ in names and numbers alone.
        working: Shards that are worked on now, or shares of a Ray cluster.
    """

    items: int
    done: int
    with_errors: int
    not_converged: int
    lost: int
    rows: int
    parts: int
    seconds: float
    retried: int
    errors: tuple[tuple[str, int], ...]
    working: tuple[Shard | RayShare, ...]

    def __str__(self) -> str:
        now = f"; worked on now: {', '.join(map(str, self.working))}" if self.working else ""
        again = f" ({self.retried} of them again)" if self.retried else ""
        head = (
            f"{self.done} of {self.items} items done{again}, {self.with_errors} with errors, {self.not_converged} not "
            f"converged; {self.rows} rows in {self.parts} parts, {self.seconds:.1f} s of computing{now}"
        )
        if self.lost:
            head += f"\n  {self.lost} inversions lead back to another picture (column inversion)"
        return "\n".join([head, *(f"  {count} x {message}" for message, count in self.errors)])


class Results:
    """The results of a run, as far as there are any; :func:`open` makes one.

    It shows what was there when it was first asked; a new one shows what was added since.

    Attributes:
        path: The folder.
        manifest: What ``run.json`` holds: settings, model, versions.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self._folder = RunFolder(path)

    @cached_property
    def _parts(self) -> list[str]:
        return self._folder.parts()

    @cached_property
    def _index(self) -> Any:
        return self.table(_INDEX)

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """A row for each item and step, as a table of pyarrow; ``.to_pandas()`` makes a data frame of it.

        Of an item that was done again after an error, only the last attempt counts, here and everywhere.

        Args:
            columns: Names of columns; all by default.

        Raises:
            ValueError: If there is no such column.
            FileError: If a table is damaged, or of another run.
        """
        import pyarrow

        wanted = None if columns is None else [check_text("table", "columns", name) for name in columns]
        read = None if wanted is None else dict.fromkeys([*wanted, "id", "part", "attempt"])
        tables = [read_part(self._folder, part, self._fingerprint, read) for part in self._parts]
        if not tables:
            kinds = {name: arrow_type(kind) for name, kind in COLUMNS.items()}
            tables = [pyarrow.schema(list(kinds.items())).empty_table()]
        found = joined_tables(tables)
        missing = [name for name in wanted or () if name not in found.column_names]
        if missing:
            raise ValueError(f"table: columns must be among those of the run, got {shown(missing[0])}")
        found = _counting(found)
        return found if wanted is None else found.select(wanted)

    def basis(self, id: str, t: float | None = None, layer: str | None = None) -> LocalBasis:
        """A basis of an item; its tensors alone are read, and everything in it is checked.

        Args:
            id: The item.
            t: As in the spec; may be left out where it names one t.
            layer: As in the spec; may be left out where it names one layer.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there is no such basis, or more than one.
            FileError: If a file is damaged.
        """
        id = check_text("basis", "id", id)
        t = check_number("basis", "t", t, 0, 1, least=True, most=True, optional=True)
        layer = check_text("basis", "layer", layer, optional=True)
        rows = [row for row in self._rows("basis", id) if row["basis"] is not None]
        fitting = [r for r in rows if (t is None or math.isclose(r["t"], t)) and layer in (None, r["layer"])]
        if len(fitting) != 1:
            known = ", ".join(f"t={row['t']:g} layer={row['layer']!r}" for row in rows) or "no basis"
            raise ValueError(
                f"basis: t and layer must name one basis of {id!r}, which has {known}, got {t} and {layer!r}"
            )
        row = fitting[0]
        place = {name: row[name] for name in ("id", "t", "layer")}
        return read_basis(self._folder.bases(row["part"]), row["basis"], place)

    def pictures(self, id: str) -> list[Path]:
        """Picture files of an item, in the order of the steps, of directions and distances.

        Raises:
            TypeError: If id is no text.
            ValueError: If there is no such item, or pictures are kept in tar files.
        """
        rows = self._rows("pictures", check_text("pictures", "id", id))
        if self._tarred:
            raise ValueError("pictures: the run must keep pictures as files, got one with tar files; see images(...)")
        return [self._folder.pictures(row["part"]) / name for row in rows for name in row["pictures"] or ()]

    def images(self, id: str) -> list[Image.Image]:
        """Pictures of an item in the same order, read from files or from tar files.

        Raises:
            TypeError: If id is no text.
            FileNotFoundError: If a file is gone.
            ValueError: If there is no such item, or a file is damaged.
        """
        rows = self._rows("images", check_text("images", "id", id))
        names = [(row["part"], name) for row in rows for name in row["pictures"] or ()]
        if not self._tarred:
            paths = [self._folder.pictures(part) / name for part, name in names]
            return [_whole(identify(path, _PICTURE)) for path in paths]
        found = {(part, m.name): m for part in {part for part, _ in names} for m in members(self._folder.tar(part))}
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise FileError(f"images: {str(self._folder.tar(missing[0]))!r} must hold {missing[1]!r}, got none")
        return [_whole(found[name].picture()) for name in names]

    def rows(self, id: str) -> list[dict[str, Any]]:
        """All columns of the rows of an item, in the order of the steps.

        Raises:
            TypeError: If id is no text.
            ValueError: If there is no such item.
            FileError: If a table is damaged.
        """
        import pyarrow.compute as compute

        first = self._rows("rows", check_text("rows", "id", id))[0]
        table = read_part(self._folder, first["part"], self._fingerprint)
        found = table.filter(compute.equal(table.column("id"), id)).to_pylist()
        return [{name: row.get(name) for name in (*COLUMNS, *row)} for row in found]

    @property
    def _tarred(self) -> bool:
        return bool(self.manifest.get("settings", {}).get("pictures") == "tar")

    def status(self) -> RunStatus:
        """How far the run is."""
        table = self._index
        columns = {name: table.column(name).to_pylist() for name in ("id", "status", "error", "seconds", "inversion")}
        pairs, done = list(zip(columns["id"], columns["status"], strict=True)), len(set(columns["id"]))
        retried = {id for id, attempt in zip(columns["id"], attempts_of(table).to_pylist(), strict=True) if attempt > 1}
        return RunStatus(
            items=max(int(self.manifest.get("items", 0)), done),
            done=done,
            with_errors=len({id for id, status in pairs if status == ERROR}),
            not_converged=len({id for id, status in pairs if status == NOT_CONVERGED}),
            lost=len({id for id, found in zip(columns["id"], columns["inversion"], strict=True) if found == _LOST}),
            rows=len(table),
            parts=len(self._parts),
            seconds=sum(value for value in columns["seconds"] if value is not None),
            retried=len(retried),
            errors=_kinds(columns["error"]),
            working=tuple(held(self._folder)),
        )

    @property
    def _fingerprint(self) -> str:
        return str(self.manifest.get("fingerprint"))

    def _rows(self, function: str, id: str) -> list[dict[str, Any]]:
        """Rows of an item; for bases, those of bases alone."""
        import pyarrow.compute as compute

        table = self._index
        found: list[dict[str, Any]] = table.filter(compute.equal(table.column("id"), id)).to_pylist()
        if not found:
            raise ValueError(f"{function}: id must be that of an item that is done, got {shown(id)}")
        return [row for row in found if function != "basis" or row["step"] == "basis"]

    def __repr__(self) -> str:
        return f"Results({str(self.path)!r}, {len(self._parts)} parts)"


def _whole(image: Image.Image) -> Image.Image:
    """A picture that was read, so that its file does not stay open: a program may have a thousand open ones."""
    return load_image(image, _PICTURE)


def _counting(table: Any) -> Any:
    """The rows of each item's last attempt; where several parts have it, those of the first one."""
    attempts = attempts_of(table)
    if _is_simple(table, attempts):
        return table
    last: dict[str, tuple[int, str]] = {}
    columns = table.column("id").to_pylist(), attempts.to_pylist(), table.column("part").to_pylist()
    rows = list(zip(*columns, strict=True))
    for id, attempt, part in rows:
        if id not in last or attempt > last[id][0]:
            last[id] = attempt, part
    return table.filter([(attempt, part) == last[id] for id, attempt, part in rows])


def _is_simple(table: Any, attempts: Any) -> bool:
    """Whether no item was done again, and none is in two parts."""
    import pyarrow.compute as compute

    if not len(table):
        return True
    if compute.max(attempts).as_py() > 1:
        return False
    places = table.select(["id", "part"]).group_by(["id", "part"], use_threads=False).aggregate([])
    return len(places) == compute.count_distinct(places.column("id")).as_py()


def _kinds(messages: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    """The most frequent kinds of errors, by the first of each."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for message in messages:
        if message is not None:
            kind = _OWN_TO_A_MESSAGE.sub("*", message)
            counts[kind] += 1
            first.setdefault(kind, message)
    return tuple((first[kind], count) for kind, count in counts.most_common(_MOST_ERRORS))


def open(folder: str | Path) -> Results:
    """Read back what a run has written; it may still be going on.

        done = latentjac.batch.open("run")
        print(done.status())
        table = done.table().to_pandas()
        basis = done.basis("photo.jpg", t=0.7)

    Raises:
        ImportError: If pyarrow is not installed.
        TypeError: If folder is no path.
        FileNotFoundError: If there is no run.
        FileError: If its ``run.json`` is damaged.
    """
    check_kind("open", "folder", folder, (str, Path), "a str or Path")
    require_pyarrow()
    manifest = RunFolder(Path(folder)).read_manifest()
    if manifest is None:
        raise FileNotFoundError(f"open: folder must be that of a run, got {str(folder)!r}, which has no run.json")
    if not isinstance(manifest.get("fingerprint"), str) or not isinstance(manifest.get("items"), int):
        raise FileError(f"open: {str(folder)!r} must have a run.json of a run, got one without fingerprint or items")
    return Results(Path(folder), manifest)
