"""The folder of a run: what lies where in it, who works on it, and what killed runs left there.

A part is a number of finished items. It has a folder of pictures, a file of bases and a table; the table is written
last, and what has no table does not count. So a run that is killed at any moment leaves whole parts, and pieces of at
most one part a shard, which the next start removes.

    run.json                   what is done: settings, model, version; a run with others is refused
    index.html                 the page of the run
    table/PART.parquet         a row for each item and step
    bases/PART.safetensors     the bases of these items
    pictures/PART/             their pictures, or
    pictures/PART.tar          the same in the layout of webdataset
    samples/                   some of them for the page, where they are in tar files
    .latentjac.lock            held while a run starts or ends
    .ray-BATCH.begun           how often workers of a Ray cluster began a batch that they have not finished
    .SHARD.lock                held by who works on a shard, or on a Ray cluster
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentjac.batch.shards import RayShare, Shard
from latentjac.files import FileError, lock, read_json, sync_folder, write_bytes
from latentjac.strict_json import to_json

Share = Shard | RayShare
MANIFEST, PAGE = "run.json", "index.html"
TABLE, BASES, PICTURES, SAMPLES = "table", "bases", "pictures", "samples"
FORM = 1  # of the folder
_LOCK = ".latentjac.lock"
_SHARE_LOCK = re.compile(r"\.(?:([0-9]{4})-of-([0-9]{4})|ray-([0-9a-f]{8}))\.lock")
_PART = re.compile(r"([0-9]{4}-of-[0-9]{4})-([0-9]{6})|ray-[0-9a-f]{16}")
_MARK = re.compile(r"\.ray-[0-9a-f]{16}\.begun")
_LAST_PART = 999_999
_UNFINISHED = re.compile(r"\.(.+)\.latentjac\.part")  # of latentjac.files.write_bytes
_IGNORED = {_LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class RunFolder:
    """Names in the folder of a run.

    Attributes:
        path: The folder.
    """

    path: Path

    def table(self, part: str) -> Path:
        """The table of a part."""
        return self.path / TABLE / f"{part}.parquet"

    def bases(self, part: str) -> Path:
        """The bases of a part."""
        return self.path / BASES / f"{part}.safetensors"

    def pictures(self, part: str) -> Path:
        """Where the pictures of a part are."""
        return self.path / PICTURES / part

    def tar(self, part: str) -> Path:
        """The pictures of a part in one file."""
        return self.path / PICTURES / f"{part}.tar"

    def mark(self, batch: str) -> Path:
        """Where it is kept how often a batch of Ray was begun."""
        return self.path / f".{batch}.begun"

    def parts(self) -> list[str]:
        """Names of all finished parts, in order."""
        return sorted(file.stem for file in _entries(self.path / TABLE) if _is_part(file.stem) and _is_table(file))

    def check_usable(self) -> None:
        """Raise unless a run can be here: nothing, an empty folder, or that of a run.

        Raises:
            ValueError: If something else is here.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"Run: folder must be a folder, got {str(self.path)!r}, which is a file")
        found = [entry.name for entry in _entries(self.path)]
        foreign = sorted(name for name in found if name not in _IGNORED and not _is_hidden(name))
        if foreign and MANIFEST not in found:
            raise ValueError(
                f"Run: folder must be new, empty, or that of a run, got {str(self.path)!r}, which holds {foreign[0]!r}"
            )

    def make_inside(self) -> None:
        """Make the folders of parts, once there is a manifest that says whose they are."""
        with naming(self.path):
            for name in (TABLE, BASES, PICTURES):
                (self.path / name).mkdir(exist_ok=True)
            sync_folder(self.path)

    def read_manifest(self) -> dict[str, Any] | None:
        """What ``run.json`` holds; None where there is none.

        Raises:
            FileError: If it is not that of a run of this form.
        """
        path = self.path / MANIFEST
        if not path.exists():
            return None
        found = read_json("open", path)
        if found.get("latentjac_run") != FORM:
            got = found.get("latentjac_run", "no number")
            raise FileError(f"open: {str(path)!r} must be that of a run of form {FORM}, got {str(got)[:20]}")
        return found

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Write ``run.json``."""
        write_bytes(self.path / MANIFEST, (to_json(content, indent=2, default=str) + "\n").encode())

    def remove_pieces(self, shard: Share) -> None:
        """Remove what killed runs left of parts of this shard, and of those of all who cannot be working now."""
        for entry in _entries(self.path):
            if _MARK.fullmatch(entry.name):
                remove(entry)
        whole = set(self.parts())
        for folder in (TABLE, BASES, PICTURES):
            for entry in _entries(self.path / folder):
                unfinished = _UNFINISHED.fullmatch(entry.name)
                part = (unfinished[1] if unfinished else entry.name).partition(".")[0]
                if not _is_part(part) or not _is_free(part, shard):
                    continue
                if unfinished or part not in whole:
                    remove(entry)
        for part in whole:
            for entry in _entries(self.pictures(part)) if _is_free(part, shard) else ():
                if _UNFINISHED.fullmatch(entry.name):
                    remove(entry)

    def next_part(self, shard: Shard) -> int:
        """Number of the first part that the shard has not written yet."""
        found = (_PART.fullmatch(part) for part in self.parts())
        return max((int(name[2]) for name in found if name and name[1] == shard.name), default=-1) + 1


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def part_name(shard: Shard, number: int) -> str:
    """Name of a part."""
    if number > _LAST_PART:
        raise ValueError(f"Run: a shard must have at most {_LAST_PART + 1} parts; divide the items among more shards")
    return f"{shard.name}-{number:06d}"


def remove(entry: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def ray_part_name(attempts: Sequence[tuple[str, int]]) -> str:
    """Name of a part that a Ray cluster writes: a task that Ray does again writes the same files again.

    Args:
        attempts: Its items, each with the number of its attempt.
    """
    return f"ray-{hashlib.sha256(to_json(attempts).encode()).hexdigest()[:16]}"


@contextmanager
def working(folder: RunFolder, shard: Share, *, joining: bool = False) -> Iterator[None]:
    """Hold a shard of a run; within, nobody else works on it, nor on shards of another number.

    The lock ends with the process, however that ends. Where files cannot be locked (Windows, some file systems of
    networks), nothing keeps a second process out.

    Args:
        folder: The folder.
        shard: What to hold.
        joining: Whether others may work beside a share of Ray, each with its own.

    Raises:
        ValueError: If somebody works on it, or on one of another number of shards.
    """
    with _starting(folder):
        others = [other for other in _held(folder) if _excludes(other, shard, joining)]
        if others:
            hint = "; give each process its own: --shard 1/2, --shard 2/2" if shard.count == 1 else ""
            raise ValueError(
                f"Run: shard must be one that nobody works on, among as many as others work on, got {shard} in "
                f"{str(folder.path)!r}, where a run works on {others[0]}{hint}"
            )
        path = folder.path / f".{shard.name}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        lock(descriptor, wait=True)
    try:
        yield
    finally:
        with _starting(folder), suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def starting(folder: RunFolder) -> Iterator[None]:
    """Hold the folder for a moment; within, nobody else begins, ends or writes the manifest."""
    with _starting(folder):
        yield


@contextmanager
def _starting(folder: RunFolder) -> Iterator[None]:
    descriptor = os.open(folder.path / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _excludes(other: Share, share: Share, joining: bool) -> bool:
    """Whether a share cannot be worked on while another is."""
    if isinstance(share, Shard) and isinstance(other, Shard):
        return other.count != share.count or other.index == share.index
    return not (joining and isinstance(other, RayShare))


def _held(folder: RunFolder) -> list[Share]:
    """Shards that somebody works on; locks that nobody holds any more are removed."""
    found: list[Share] = []
    for entry in _entries(folder.path):
        name = _SHARE_LOCK.fullmatch(entry.name)
        if name is None:
            continue
        descriptor = os.open(entry, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if lock(descriptor, wait=False) is False:
                found.append(RayShare(name[3]) if name[3] else Shard(int(name[1]), int(name[2])))
            else:
                entry.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return found


def held(folder: RunFolder) -> list[Share]:
    """Shards that somebody works on now; none where this process may not write, and so not ask."""
    if (folder.path / _LOCK).exists():
        with suppress(PermissionError), _starting(folder):
            return _held(folder)
    return []


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_hidden(name: str) -> bool:
    """Whether a name is that of a lock or of an unfinished file, which are there before the manifest is."""
    return _UNFINISHED.fullmatch(name) is not None or _SHARE_LOCK.fullmatch(name) is not None


def _is_part(name: str) -> bool:
    return _PART.fullmatch(name) is not None


def _is_table(file: Path) -> bool:
    return file.suffix == ".parquet" and not file.name.startswith(".")


def _is_free(part: str, shard: Share) -> bool:
    """Whether a part can be of nobody else who works now: who works has another index and the same number.

    Parts of Ray are free whenever anything but one of its workers starts.
    """
    own, of_number = part.startswith(shard.name), part[5:12] == f"of-{shard.count:04d}"
    return own or not of_number
