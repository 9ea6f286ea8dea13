"""Safetensors files, whose header is checked before anything else is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from latentjac.files import FileError, open_file
from latentjac.strict_json import LARGEST_JSON, from_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MOST_DIMENSIONS, _MOST_NUMBERS = 64, 2**48  # of a tensor


@dataclass(frozen=True)
class Entry:
    """What a header says of a tensor.

    Attributes:
        dtype: Its type.
        shape: Its shape.
        begin: First byte behind the header.
        end: Byte after the last.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        entries: Its tensors by name, which cover the rest of the file without gaps.
        metadata: Texts by name.
        start: Where the data begin.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str]
    start: int


def read_header(function: str, path: str | Path) -> Header:
    """Header of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it is not a safetensors file: the header is no strict JSON, something in it is missing, of another
            kind or unknown, or tensors overlap, leave gaps or do not end where the file ends.
    """
    with open_file(function, path) as file:
        return _checked_header(function, path, "a safetensors file", file)


def check_replaced(path: Path, key: str, what: str) -> None:
    """Raise if there is a file that is another one than of the kind that is to be written.

    Args:
        path: Where it is to be.
        key: Of the metadata that files of the kind have.
        what: The kind, for messages.

    Raises:
        FileExistsError: If there is such a file.
    """
    if not path.is_file():
        return
    try:
        if key in read_header("save", path).metadata:
            return
    except FileError:
        pass
    raise FileExistsError(f"save: path must be new or that of a {what}, got {str(path)!r}, which is another file")


def read_tensors(
    function: str, path: str | Path, kind: str, check: Callable[[Header], None]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a file, on the CPU, one by one.

    Args:
        function: Who reads, for messages.
        path: The file.
        kind: What it must be, for messages.
        check: Called before any tensor is read; raises a ValueError where the header is not what it must be.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: As :func:`read_header` raises it, and with what ``check`` raised.
    """
    with open_file(function, path) as file:
        header = _checked_header(function, path, kind, file)
        try:
            check(header)
        except ValueError as error:
            raise FileError(f"{function}: path must be {kind}, got {str(path)!r}: {error}") from error
        for name, entry in header.entries.items():
            tensor = torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
            content = tensor.flatten().view(torch.uint8).numpy()
            file.seek(header.start + entry.begin)
            if file.readinto(content) != len(content):  # type: ignore[attr-defined]
                raise FileError(f"{function}: {str(path)!r} became shorter while it was read")
            yield name, tensor


def digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    """SHA-256 of tensors, with their names, types and shapes, and of a text."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _checked_header(function: str, path: str | Path, kind: str, file: BinaryIO) -> Header:
    try:
        return _header(file)
    except ValueError as error:
        raise FileError(f"{function}: path must be {kind}, got {str(path)!r}: {error}") from error


def _header(file: BinaryIO) -> Header:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, LARGEST_JSON):
        raise ValueError(f"header must have at most {min(max(size - 8, 0), LARGEST_JSON)} bytes, got {length}")
    content = from_json(file.read(length))
    if not isinstance(content, dict):
        raise ValueError(f"header must be a JSON object, got {type(content).__name__}")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ must be a JSON object of strings")
    entries = {name: _entry(name, value) for name, value in content.items()}
    _check_cover(entries, size - 8 - length)
    return Header(entries, metadata, 8 + length)


def _entry(name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} must have dtype, shape and data_offsets alone")
    dtype, shape, offsets = (value[key] for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name!r} must have a dtype of {list(DTYPES)}, got {str(dtype)[:20]!r}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS or math.prod(max(n, 1) for n in shape) >= _MOST_NUMBERS:
        raise ValueError(
            f"{name!r} must have a shape of at most {_MOST_DIMENSIONS} numbers from 0 that memory can hold"
        )
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} must have data_offsets of two numbers from 0")
    entry = Entry(DTYPES[dtype], tuple(shape), *offsets)
    if entry.end - entry.begin != math.prod(shape) * entry.dtype.itemsize:
        raise ValueError(f"{name!r} must have as many bytes as {dtype} {shape} takes, got {entry.end - entry.begin}")
    return entry


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _check_cover(entries: Mapping[str, Entry], size: int) -> None:
    """Raise unless tensors lie one behind the other and end with the file."""
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != place:
            raise ValueError(f"{name!r} must begin at byte {place} of the data, got {entry.begin}")
        place = entry.end
    if place != size:
        raise ValueError(f"tensors must end where the file ends, at byte {size} of the data, got {place}")
