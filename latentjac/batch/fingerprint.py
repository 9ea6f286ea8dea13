"""What a run is told from others by, and how two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import latentjac
from latentjac.batch.fitting import identity_of
from latentjac.batch.folder import FORM, RunFolder, starting
from latentjac.batch.spec import Spec
from latentjac.models import Model
from latentjac.report import versions
from latentjac.strict_json import from_json, to_json

_TOLD = ("version", "model", "settings")  # what a fingerprint is of
_MOST_SHOWN = 5
_LONGEST_SHOWN = 60  # letters of a value


def manifest_of(spec: Spec, model: Model, items: int) -> dict[str, Any]:
    """What ``run.json`` is to hold.

    Which items there are is left out of the fingerprint: others can be added later.
    """
    settings = {name: value for name, value in spec.settings().items() if name not in ("model", "dtype")}
    told = {"version": latentjac.__version__, "model": identity_of(model), "settings": settings}
    content = {
        "latentjac_run": FORM,
        "fingerprint": hashlib.sha256(to_json(told).encode()).hexdigest(),
        **told,
        "name": model.name,
        "items": items,
        "versions": versions(),
    }
    found: dict[str, Any] = from_json(to_json(content).encode())  # as it is read back
    return found


def difference(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two manifests, a text each."""
    old, new = (dict(_flat({key: content.get(key) for key in _TOLD})) for content in (there, now))
    names = [name for name in [*old, *(name for name in new if name not in old)] if old.get(name) != new.get(name)]
    told = ["{} was {} and is {}".format(name, *_short(old.get(name), new.get(name))) for name in names[:_MOST_SHOWN]]
    return told + ([f"{len(names) - _MOST_SHOWN} more"] if len(names) > _MOST_SHOWN else [])


def check_same(folder: str, there: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise where a folder holds another run.

    Raises:
        ValueError: If so; the message has the difference.
    """
    if there.get("fingerprint") != now["fingerprint"]:
        told = "; ".join(difference(there, now)) or "its fingerprint is another one"
        raise ValueError(f"Run: folder must be new or that of a run with these settings, got {folder!r}, where {told}")


def settle(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Have ``run.json`` in a folder, the same as a manifest but for the number of items, where 0 is unknown.

    Raises:
        ValueError: If the folder holds another run.
    """
    with starting(folder):
        there = folder.read_manifest()
        if there is not None:
            check_same(str(folder.path), there, manifest)
        if there is None or manifest["items"] not in (0, there.get("items")):
            folder.write_manifest(manifest)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    entries: Any = ()
    if isinstance(value, dict) and value:
        entries = ((f"{name}.{key}" if name else key, entry) for key, entry in value.items())
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        entries = ((f"{name}[{i}]", entry) for i, entry in enumerate(value))
    else:
        yield name.removeprefix("settings."), value
    for key, entry in entries:
        yield from _flat(entry, key)


def _short(old: Any, new: Any) -> list[str]:
    """Two values in words; of long ones what is around the first difference."""
    texts = [to_json(old), to_json(new)]
    if max(map(len, texts)) <= _LONGEST_SHOWN:
        return texts
    differing = (i for i, (one, other) in enumerate(zip(*texts, strict=False)) if one != other)
    begin = max(0, next(differing, min(map(len, texts))) - _LONGEST_SHOWN // 2)
    parts = [text[begin : begin + _LONGEST_SHOWN] for text in texts]
    ends = ["..." if len(text) > begin + _LONGEST_SHOWN else "" for text in texts]
    return [f"{'...' if begin else ''}{part}{end}" for part, end in zip(parts, ends, strict=True)]
