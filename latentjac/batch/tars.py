"""Tar files of pictures in the layout of webdataset: members that agree up to their first dot are one sample.

They are not compressed, so that a member is read by its place alone.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from latentjac.files import FileError, open_file


@dataclass(frozen=True)
class Member:
    """A file in a tar file.

    Attributes:
        tar: The tar file.
        name: Of the file in it.
        begin: Where its bytes begin.
        size: How many there are.
    """

    tar: Path
    name: str
    begin: int
    size: int

    def content(self) -> bytes:
        """Its bytes.

        Raises:
            FileNotFoundError: If the tar file is gone.
            FileError: If it ends before.
        """
        with open_file("items", self.tar) as file:
            file.seek(self.begin)
            found = file.read(self.size)
        if len(found) < self.size:
            raise FileError(f"items: {str(self.tar)!r} must hold {self.name!r} whole, got {len(found)} bytes of it")
        return found

    def picture(self) -> Image.Image:
        """The picture that it is.

        Raises:
            ValueError: If it is none.
        """
        try:
            return Image.open(io.BytesIO(self.content()))
        except (OSError, Image.DecompressionBombError) as error:
            got = f"{self.name!r} of {str(self.tar)!r}"
            raise ValueError(f"photo must be a picture file, got {got}: {error}") from error


def tar_file(files: Sequence[tuple[str, bytes]]) -> bytes:
    """The content of a tar file; equal files give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def members(path: Path) -> Iterator[Member]:
    """The files in a tar file, in order; folders, links and hidden files are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it is no tar file, is compressed, or ends too early.
    """
    with open_file("items", path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for entry in tar:
                    if entry.isreg() and not entry.name.rpartition("/")[2].startswith("."):
                        yield Member(path, entry.name, entry.offset_data, entry.size)
        except tarfile.TarError as error:
            raise FileError(f"items: {str(path)!r} must be a tar file that is not compressed, got {error}") from error


def sample_of(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and what it is of it: folders and name up to the first dot, and the rest."""
    folder, slash, file = name.rpartition("/")
    key, _, kind = file.partition(".")
    return f"{folder}{slash}{key}", kind
