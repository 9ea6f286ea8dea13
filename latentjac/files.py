"""Files that are written whole or not at all, and read without trust."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from latentjac.strict_json import LARGEST_JSON, from_json

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 200  # of the 255 bytes that file systems allow


class FileError(ValueError):
    """A file is not what it is read as; the message names the file and the fault.

    Example:
        >>> open("empty.safetensors", "w").close()
        >>> try:
        ...     latentjac.LocalBasis.load("empty.safetensors")
        ... except latentjac.FileError:
        ...     print("no basis")
        no basis
    """


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file through a temporary neighbour, so that a reader never sees half of it.

    It survives a loss of power: content and name are on the disk before this returns, which takes a small file about
    half a millisecond on an SSD and one of 5 MB some ten. Links are written through; the permissions are those of any
    new file. What a killed process left of this file is removed. Where files cannot be locked (Windows, some file
    systems of networks), nothing tells whether that process lives: such a rest has to be removed by hand.

    Raises:
        OSError: Which names ``path``: no folder, no space, no permission, or a target that is not a file.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_target(target)
        with _part_of(target) as part:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "Is a pipe or device")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if fcntl is None:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, wait: bool) -> bool | None:
    """Lock an open file until it is closed, however its process ends.

    Returns:
        Whether it is locked now; False only without ``wait``. None where there are no locks: on Windows and on some
        file systems of networks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_file(function: str, path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; never waits, as opening a pipe would.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it is something else, such as a folder, a pipe or a device.
        OSError: If it cannot be opened.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{function}: path must be an existing file, got {str(path)!r}")
    if stat.S_ISREG(os.stat(path).st_mode):
        # It may have become a pipe since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    raise FileError(f"{function}: path must be a file, got {str(path)!r}, which is a folder, pipe or device")


def read_json(function: str, path: str | Path, infinite: Collection[str] = ()) -> dict[str, Any]:
    """Read a file that holds one JSON object; ``infinite`` as of :func:`latentjac.strict_json.from_json`.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it does not hold strict JSON, or no object; see :func:`latentjac.strict_json.from_json`.
    """
    with open_file(function, path) as file:
        text = file.read(LARGEST_JSON + 1)
    try:
        content = from_json(text, infinite)
    except ValueError as error:
        raise FileError(f"{function}: {str(path)!r} must be JSON, got {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{function}: {str(path)!r} must hold a JSON object, got {type(content).__name__}")
    return content


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """The temporary neighbour of a file, new, empty and locked; its user moves it away, or fails."""
    part, descriptor = _claim(target)
    try:
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _claim(target: Path) -> tuple[Path, int]:
    """Make and lock the neighbour; wait for another writer of the file, and remove what a killed one left."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    part = target.with_name(f".{name}.latentjac.part")
    while True:
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            _wait_or_remove(part)
            continue
        lock(descriptor, wait=True)
        if _is_still(part, descriptor):  # not taken for that of a killed writer before it was locked
            return part, descriptor
        os.close(descriptor)


def _wait_or_remove(part: Path) -> None:
    """Return when the neighbour of another writer has gone."""
    try:
        descriptor = os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not regular or lock(descriptor, wait=True) is None:
            raise FileExistsError(errno.EEXIST, f"{str(part)!r} is in the way; remove it if nothing writes into it")
        if _is_still(part, descriptor):
            part.unlink()
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether a path is that of an open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
