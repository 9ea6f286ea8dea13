"""A folder that holds one run and nothing else: locked while a run works on it, and replaced as a whole at its end.

A run writes into a folder inside, ``UNFINISHED``. When all is there, that folder is renamed to ``FINISHED``, and what
it holds is moved up, over the files of an older run; those that the new one does not have are removed. A run that is
killed before leaves the older one as it was, and the next run removes what it wrote; one that is killed in between is
moved into place by the next run.

Where files cannot be locked (Windows, some file systems of networks), ``UNFINISHED`` itself keeps a second run out; a
killed one leaves it there, to be removed by hand.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentjac.files import FileError, lock, open_file, read_json, sync_folder

RECORD = "run.json"
LOCK, UNFINISHED, FINISHED = ".latentjac.lock", ".latentjac-unfinished", ".latentjac-finished"
# What file managers leave in folders that they show.
_IGNORED = {LOCK, UNFINISHED, FINISHED, ".DS_Store", "Thumbs.db", "desktop.ini"}
_KINDS = (".png", ".gif", ".html", ".json", ".safetensors", ".parquet")
# Temporary files of ours; a process number stands in those of old versions.
_PART = re.compile(rf"\..+({'|'.join(map(re.escape, _KINDS))})\.((?P<process>[0-9]+)|latentjac)\.part")

_Record = dict[str, Any]  # checksums of the files of a run by name


class OutputFolder:
    """The folder of ``--out``, held from before anything is computed until it is closed.

    Attributes:
        path: The folder.
        staging: Where files are written; they are in :attr:`path` after :meth:`finish`.

    Args:
        path: The folder; made if missing, with its parents.
        inputs: Files that the run reads, by the option that names them.

    Raises:
        ValueError: If it is no folder, another run works on it, or it holds an input or anything but an older run.
        OSError: If it cannot be made or written.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Path]) -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out: expected a folder, got {str(path)!r}, which is a file")
        self.path, self.staging = path, path / UNFINISHED
        self._descriptor: int | None = None
        self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = _hold(path)
            _check_inputs(path, inputs)
            _complete(path)
            _own_files(path, [_read_record(path)])
            _remove_rests(path)
            self.staging.mkdir()
        except BaseException:
            self.close()
            raise

    def finish(self) -> None:
        """Move what was written into place; ``RECORD`` must be among it and list it."""
        self.staging.rename(self.path / FINISHED)
        self._made = []
        _complete(self.path)

    def close(self) -> None:
        """Remove what was not finished, and let others in; nothing more the second time."""
        if self._descriptor is not None:
            _remove_staging(self.path)
            (self.path / LOCK).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:  # somebody uses it
                break
        self._made = []


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by name."""
    return {file.name: _checksum(file) for file in sorted(folder.iterdir())}


def _hold(path: Path) -> int:
    """Lock a folder by a file in it, whose lock ends with the process however that ends."""
    place = path / LOCK
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        held = lock(descriptor, wait=False)
        # Without locks, only the folder of a run says that there is one.
        if held is False or (held is None and (path / UNFINISHED).exists()):
            os.close(descriptor)
            hint = "" if held is False else f"; if none does, remove {str(path / UNFINISHED)!r}"
            raise ValueError(f"--out: expected a folder of its own, got {str(path)!r}, where another run works{hint}")
        if _same_file(place, descriptor):
            return descriptor
        os.close(descriptor)  # the run that had it has removed it meanwhile


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _check_inputs(path: Path, inputs: Mapping[str, Path]) -> None:
    for option, file in inputs.items():
        if file.exists() and any(os.path.samefile(file, entry) for entry in path.iterdir() if entry.exists()):
            raise ValueError(
                f"--out: expected a folder without the files that the run reads, got {str(path)!r}, which holds "
                f"{option} ({str(file)!r})"
            )


def _own_files(path: Path, records: Sequence[_Record]) -> set[str]:
    """Names of the files of runs in a folder.

    A file is one if a record lists it and it is as it was written; records of old versions have no checksums.

    Raises:
        ValueError: If there is anything else.
    """
    found, foreign = set(), []
    for entry in sorted(path.iterdir()):
        if entry.name in _IGNORED or _PART.fullmatch(entry.name):
            continue
        sums = [record[entry.name] for record in records if entry.name in record]
        regular = stat.S_ISREG(entry.lstat().st_mode)
        if regular and sums and (None in sums or _checksum(entry) in sums):
            found.add(entry.name)
        else:
            foreign.append(entry.name + (" (changed since)" if regular and sums else ""))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ValueError(
            f"--out: expected a new or empty folder, or one with nothing but an older run, got {str(path)!r}, which "
            f"holds {', '.join(foreign[:3])}{more}"
        )
    return found


def _read_record(path: Path) -> _Record:
    """Checksums of the files that the record in a folder lists, None where it has none; empty if there is no record."""
    try:
        record = read_json("--out", path / RECORD)
    except (FileNotFoundError, FileError):
        return {}
    files, sums = record.get("files"), record.get("sha256", {})
    if not isinstance(record.get("command"), str) or not isinstance(files, dict) or not isinstance(sums, dict):
        return {}
    names = {name for name in files if name == os.path.basename(name) and Path(name).suffix in _KINDS}
    return {**{name: sums.get(name) for name in names if not name.startswith(".")}, RECORD: None}


def _checksum(file: Path) -> str:
    found = hashlib.sha256()
    with open_file("--out", file) as content:
        while part := content.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def _complete(path: Path) -> None:
    """Move a finished run into place; or what a killed one had still to move.

    The record moves last: until then the old one lists the files that have to go.
    """
    source = path / FINISHED
    if not source.is_dir() or source.is_symlink():
        return
    new = _read_record(source)
    names = {file.name for file in source.iterdir()}
    if not names <= new.keys():
        raise ValueError(f"--out: expected a folder of a run, got {str(path)!r}, where {FINISHED} holds other files")
    if RECORD in names:
        try:
            old = _own_files(path, [_read_record(path), new])
        except ValueError as error:
            raise ValueError(f"{error}; what the last run wrote waits in {str(source)!r} for the next one") from None
        for name in sorted(names - {RECORD}):
            os.replace(source / name, path / name)
        for name in old - new.keys():
            (path / name).unlink()
        os.replace(source / RECORD, path / RECORD)
    source.rmdir()
    sync_folder(path)


def _remove_staging(path: Path) -> None:
    staging = path / UNFINISHED
    if staging.is_dir() and not staging.is_symlink():
        shutil.rmtree(staging)


def _remove_rests(path: Path) -> None:
    """Remove what killed runs left, but not the temporary files of processes that live."""
    _remove_staging(path)
    for file in path.iterdir():
        part = _PART.fullmatch(file.name)
        if part and stat.S_ISREG(file.lstat().st_mode) and not _is_written(file, part["process"]):
            file.unlink(missing_ok=True)


def _is_written(part: Path, process: str | None) -> bool:
    """Whether a process writes into a temporary file; old versions have its number in the name and no lock."""
    if process is not None:
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        return True
    with part.open("rb") as file:
        return not lock(file.fileno(), wait=False)
