"""What may be typed for an option: parsers that refuse the rest before anything is computed.

A parser takes the text that was typed; a default, which is no text or a good one, comes back as it is.
"""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentjac.cli.refusals import Refusal

Parser = Callable[[Any], Any]

_MOST_SHOWN = 80


def refusal(option: str, expected: str, got: object, why: str = "") -> Refusal:
    """The one form of a refusal, to be raised."""
    text = str(got)
    shown = text if re.fullmatch(r"[-+.\w]+", text, re.ASCII) else repr(text)
    if len(shown) > _MOST_SHOWN:
        shown = f"{shown[:_MOST_SHOWN]}…"
    return Refusal(f"{option} must be {expected}, got {shown}{why}")


def whole(option: str, least: int, most: int | None = None) -> Parser:
    """Whole numbers in a range."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        # int itself refuses numbers of more than 4300 digits.
        value = int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,4000}\s*", text) else None
        if value is None or value < least or (most is not None and value > most):
            raise refusal(option, f"a whole number {bounds}", text)
        return value

    return parse


def number(option: str, low: float, high: float, *, ends: bool = False, what: str = "a number") -> Parser:
    """Numbers between two, which count too with ``ends``."""
    bounds = f"from {low:g} to {high:g}" if ends else f"between {low:g} and {high:g}"

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        value = _float(text)
        if not (low < value < high or (ends and value in (low, high))):  # so is NaN
            raise refusal(option, f"{what} {bounds}", text)
        return value

    return parse


def choice(option: str, names: Sequence[str]) -> Parser:
    """One of some words."""

    def parse(text: Any) -> Any:
        if text is not None and text not in names:
            raise refusal(option, f"one of {', '.join(names)}" if len(names) > 1 else f"{names[0]} or left out", text)
        return text

    return parse


def name(option: str, expected: str) -> Parser:
    """Any text that is not blank."""

    def parse(text: Any) -> Any:
        if isinstance(text, str) and (not text.strip() or "\0" in text):
            raise refusal(option, expected, text)
        return text

    return parse


def sentence(option: str) -> Parser:
    """Any text, an empty one too."""

    def parse(text: Any) -> Any:
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise refusal(option, "a text in the encoding of the terminal", text)
        return text

    return parse


def device(option: str) -> Parser:
    """Names of devices that can compute; whether there is such a one is known to torch."""

    def parse(text: Any) -> Any:
        if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?", text, re.ASCII):
            raise refusal(option, "auto, cpu, cuda or cuda:N", text)
        return text

    return parse


def file(option: str, expected: str) -> Parser:
    """Paths of files; whether they are there is for :func:`check_file`."""

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        if not text or "\0" in text:
            raise refusal(option, expected, text, ", which does not exist")
        return Path(text)

    return parse


def check_file(option: str, expected: str, path: Path | None) -> None:
    """Raise where an option names a file that is not there."""
    if path is None or os.path.isfile(path):  # raises for no path
        return
    there = os.path.exists(path)
    why = "is a folder" if os.path.isdir(path) else "is no regular file" if there else "does not exist"
    raise refusal(option, expected, path, f", which {why}")


def folder(option: str) -> Parser:
    """Paths of folders that are there, or can be made, and can be written to."""

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        expected = "a folder to write into"
        if not text or "\0" in text:
            raise refusal(option, expected, text)
        path = Path(text)
        if any(len(os.fsencode(part)) > 255 for part in path.parts):
            raise refusal(option, expected, text, ", whose name is too long")
        try:
            there = next(place for place in (path.absolute(), *path.absolute().parents) if _is_there(place))
        except OSError as error:
            raise refusal(option, expected, text, f" ({error.strerror})") from error
        if not there.is_dir():
            raise refusal(option, expected, text, ", which is a file" if there == path.absolute() else ", in a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise refusal(option, expected, text, ", where nothing can be written")
        return path

    return parse


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return False
    return True


def numbers(option: str, low: float, high: float, least: int = 1) -> Parser:
    """Texts for :func:`parse_numbers`."""
    return _read_as(lambda text: parse_numbers(option, text, low, high, least))


def indices(option: str) -> Parser:
    """Texts for :func:`parse_indices`."""
    return _read_as(lambda text: parse_indices(option, text))


def box(option: str) -> Parser:
    """Texts for :func:`parse_box`."""
    return _read_as(lambda text: parse_box(option, text))


def size(option: str) -> Parser:
    """Texts for :func:`parse_size`."""
    return _read_as(lambda text: parse_size(option, text))


def adapter(option: str) -> Parser:
    """Texts for :func:`parse_adapter`."""
    return _read_as(lambda text: parse_adapter(option, text))


def _read_as(read: Callable[[str], Any]) -> Parser:
    """Texts that a function can read; it raises for others, and is called again where the values are used."""

    def parse(text: Any) -> Any:
        if isinstance(text, str):
            read(text)
        return text

    return parse


def parse_adapter(option: str, text: str) -> tuple[str, float]:
    """A file or folder of an adapter, and its scale, which may stand behind a colon."""
    expected = "a safetensors file or a folder with one, with a :SCALE from -100 to 100 behind it or not"
    path, colon, behind = text.rpartition(":")
    scale = _float(behind) if colon and not _exists(text) else math.nan
    path, scale = (text, 1.0) if math.isnan(scale) else (path, scale)
    if not _exists(path):
        raise refusal(option, expected, text, ", which does not exist")
    if not -100 <= scale <= 100:
        raise refusal(option, expected, text)
    return path, scale


def _exists(path: str) -> bool:
    try:
        return bool(path) and "\0" not in path and Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, or none of the file system, or of no user
        return False


def parse_numbers(option: str, text: str, low: float, high: float, least: int = 1) -> list[float]:
    """Comma-separated numbers in a range, at least so many."""
    found = [_float(part) for part in text.split(",")]
    if len(found) < least or not all(low <= value <= high for value in found):
        several = "" if least == 1 else f"at least {least} "
        raise refusal(option, f"{several}comma-separated numbers from {low:g} to {high:g}", text)
    return found


def parse_indices(option: str, text: str) -> list[int]:
    """Numbers of directions that begin at 1 as indices that begin at 0."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        raise refusal(option, "comma-separated whole numbers of at least 1", text)
    return [int(part) - 1 for part in parts]


def parse_box(option: str, text: str) -> tuple[int, int, int, int]:
    """A crop box."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(re.fullmatch("[+-]?[0-9]{1,9}", part) for part in parts):
        raise refusal(option, "left,top,right,bottom in pixels", text)
    left, top, right, bottom = (int(part) for part in parts)
    if left < 0 or top < 0 or left >= right or top >= bottom:
        raise refusal(option, "left,top,right,bottom in pixels, with left < right and top < bottom", text)
    return left, top, right, bottom


def parse_size(option: str, text: str) -> tuple[int, int]:
    """Height and width of ``WIDTHxHEIGHT``, or of the side of a square, in pixels."""
    found = re.fullmatch(r"\s*([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?\s*", text, re.ASCII)
    if found is None:
        raise refusal(option, "WIDTHxHEIGHT or the side of a square in pixels", text)
    return int(found[2] or found[1]), int(found[1])


def check_different(option: str, values: Sequence[float], text: str) -> None:
    """Raise where something was asked for twice, which would be written to the same file."""
    if len({f"{value:g}" for value in values}) < len(values):
        raise refusal(option, "different comma-separated numbers", text)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
