"""What the values of a spec may be; errors name the key."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentjac.arguments import check_bool, check_int, check_number, check_text, shown

NAME = "spec"

Check = Callable[[str, Any], Any]  # of a key, as messages name it, and its value


def whole(least: int, most: int | None = None, *, optional: bool = False) -> Check:
    """An int."""
    return lambda key, value: check_int(NAME, key, value, least, most, optional=optional)


def number(low: float, high: float, **ends: bool) -> Check:
    """A number."""
    return lambda key, value: check_number(NAME, key, value, low, high, **ends)


def text(*, optional: bool = False) -> Check:
    """A text."""
    return lambda key, value: check_text(NAME, key, value, optional=optional)


def switch(key: str, value: Any) -> bool:
    """A bool."""
    return check_bool(NAME, key, value)


def several(check: Check) -> Check:
    """One value or a list of different ones, as a tuple."""

    def checked(key: str, value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values:
            raise ValueError(f"{NAME}: {key} must be a value or a list of some, got an empty list")
        found = tuple(check(key, entry) for entry in values)
        if len(set(found)) < len(found):
            raise ValueError(f"{NAME}: {key} must be different values, got {shown(value)}")
        return found

    return checked


def mapping(key: str, value: Any, known: set[str] | Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose keys are all known."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{NAME}: {key} must be a mapping of {sorted(known)}, got {type(value).__name__}")
    for name in value:
        if name not in known:
            where = name if key == "the whole" else f"{key[1:-1]}.{name}"
            hint = _nearest(str(name), known)
            raise ValueError(f"{NAME}: keys must be among {sorted(known)}, got {str(where)[:100]!r}{hint}")
    return dict(value)


def _nearest(name: str, known: Collection[str]) -> str:
    """What was probably meant."""
    holding = [key for key in sorted(known) if len(name) > 3 and name in key]
    near = difflib.get_close_matches(name.lower(), known, n=1) or holding
    return f"; did you mean {near[0]!r}?" if near else ""


def options(part: str, value: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Options of a part that were given, each checked."""
    given = {} if value is None else mapping(f"'{part}'", value, checks)
    return {name: checks[name](f"'{part}.{name}'", entry) for name, entry in given.items()}


def entries(part: str, value: Any) -> list[tuple[str, Any]]:
    """The entries of a list of mappings, each with how messages name it; none of None."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{NAME}: '{part}' must be a list of mappings, got {type(value).__name__}")
    return [(f"{part}[{i}]", entry) for i, entry in enumerate(value)]


def placed(name: str, root: Path) -> str:
    """A path of a spec, which begins in its folder; what is none there is a name of a hub."""
    place = root / Path(name).expanduser()
    return str(place) if place.exists() else name


def apart(key: str, values: tuple[float, ...]) -> tuple[float, ...]:
    """Numbers that names of pictures can tell from each other."""
    if len({f"{value:g}" for value in values}) < len(values):
        raise ValueError(f"{NAME}: {key} must differ in their first six digits, got {shown(list(values))}")
    return values


@contextmanager
def of_part(part: str, own: Collection[str]) -> Iterator[None]:
    """Errors about an argument of the library name the key of a part.

    Args:
        part: Such as ``edits[0]``.
        own: Names of arguments that are keys of it.
    """
    try:
        yield
    except (TypeError, ValueError, FileNotFoundError) as error:
        rest = str(error).partition(": ")[2]
        argument, _, expected = rest.partition(" ")
        told = f"'{part}.{argument}' {expected}" if argument in own else f"'{part}' {rest}"
        raise type(error)(f"{NAME}: {told}") from error


def digest_of(path: Path) -> str:
    """SHA-256 of a file, which tells it whatever it is called."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
