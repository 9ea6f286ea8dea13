"""Values put into a spec, by keys such as ``bases.k``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from latentjac.batch.spec_values import NAME


def changed(content: Any, changes: Mapping[str, Any]) -> Any:
    """A spec with other values; the given one stays as it is.

    Args:
        content: The mapping that a spec is.
        changes: Values by key: names with dots between them, and numbers from 0 for entries of lists, such as
            ``edits.0.distance``. Mappings that are missing are made.

    Raises:
        ValueError: If a key leads through something that is no mapping and no list, or to no entry of a list.
    """
    found = copy.deepcopy({} if content is None else content)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = found
        for name in path:
            inner = _inner(key, place, name)
            if inner is None:
                inner = place[_index(key, place, name)] = {}
            place = inner
        place[_index(key, place, last)] = value
    return found


def _inner(key: str, place: Any, name: str) -> Any:
    index = _index(key, place, name)
    return place.get(index) if isinstance(place, dict) else place[index]


def _index(key: str, place: Any, name: str) -> Any:
    """The key of a mapping or the number of an entry of a list that a name stands for."""
    if isinstance(place, dict) and name:
        return name
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return int(name)
    there = f"a list of {len(place)}" if isinstance(place, list) else type(place).__name__
    raise ValueError(f"{NAME}: {key[:100]!r} must lead through mappings and lists, got {there} before {name[:50]!r}")
