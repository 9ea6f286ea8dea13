"""Strict JSON (RFC 8259): what is written is JSON for every reader, and nothing else is read.

JSON has no number for NaN and the infinities: they are written as the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"``, which ``float`` of Python and ``Number`` of JavaScript turn back into numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from typing import Any

DEEPEST = 64  # lists and objects inside each other, written or read
LARGEST_JSON = 16 * 2**20  # bytes that are read

# Matches at every quote, or texts without an end would be searched again and again.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def to_json(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Text of a value, ASCII only; file names that are not UTF-8 are written with backslashes.

    Args:
        content: Dictionaries, lists, tuples, strings, numbers, bools and None.
        indent: Spaces a level; on one line by default.
        default: Makes one of these of anything else.

    Raises:
        TypeError: If something else is in it, and no ``default`` was given.
        ValueError: If it is nested deeper than ``DEEPEST``, or two keys of a dictionary have one text.
    """
    return json.dumps(_plain(content, default, DEEPEST), indent=indent, allow_nan=False)


def from_json(text: bytes, infinite: Collection[str] = ()) -> Any:
    """Value of a text.

    Args:
        text: In UTF-8.
        infinite: Keys of the outermost object that can be ``Infinity`` or ``-Infinity``, as some programs write them.

    Raises:
        ValueError: If it is not strict JSON in UTF-8, larger than ``LARGEST_JSON``, nested deeper than ``DEEPEST``, has
            a number too large for a float, or a key twice in one object.
    """
    if len(text) > LARGEST_JSON:
        raise ValueError(f"JSON must have at most {LARGEST_JSON} bytes, got {len(text)}")
    decoded = text.decode()
    if _too_deep(decoded):
        raise ValueError(f"JSON must be nested at most {DEEPEST} deep, got more")
    value = json.loads(decoded, object_pairs_hook=_object)
    known = {key: 0 for key in infinite if isinstance(value, dict) and value.get(key) in (math.inf, -math.inf)}
    _check_finite({**value, **known} if known else value, "")
    # Half of a surrogate pair is text that nothing can write.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def readable(text: str) -> str:
    """Text that can be written as UTF-8: what cannot, such as the bytes of some file names, with backslashes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any, default: Callable[[Any], Any] | None, depth: int) -> Any:
    """The value in the types of JSON alone."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if value is None or isinstance(value, int):
        return value
    if not isinstance(value, (dict, list, tuple)):
        if default is None:
            raise TypeError(
                f"JSON must hold dicts, lists, strings, numbers, bools and None, got {type(value).__name__}"
            )
        return _plain(default(value), None, depth)
    if depth == 0:
        raise ValueError(f"JSON must be nested at most {DEEPEST} deep, got more")
    if not isinstance(value, dict):
        return [_plain(entry, default, depth - 1) for entry in value]
    found = {_key(key): _plain(entry, default, depth - 1) for key, entry in value.items()}
    if len(found) < len(value):
        raise ValueError(f"JSON must have every key once, got {list(map(str, value))}")
    return found


def _key(key: Any) -> str:
    if isinstance(key, str):
        return readable(key)
    if key is None or isinstance(key, (bool, int)):
        return json.dumps(key)
    raise TypeError(f"JSON must have keys that are strings, got {type(key).__name__}")


def _too_deep(text: str) -> bool:
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEEPEST:
            return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"JSON must have every key once, got {key[:50]!r} twice")
        found[key] = value
    return found


def _check_finite(value: Any, place: str) -> None:
    """Raise where a number is not, with the keys that lead there: NaN, Infinity, or beyond the floats."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON must have finite numbers, got {value}" + (f" at {place}" if place else ""))
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        _check_finite(entry, f"{place}.{key}"[-100:] if place else str(key)[:100])
