"""Files of many bases: safetensors with facts as JSON in the header, and a sum of each basis.

Tensors are called ``<number>.<name>``, as in the file of a single basis. The header's metadata are ``schema``, the
number of the form of the file, and ``latentjac-bases``, a list with the place, the facts and the SHA-256 of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from latentjac.files import FileError, open_file
from latentjac.solvers import LocalBasis
from latentjac.solvers.basis import contents
from latentjac.solvers.files import SCHEMA as FACTS_SCHEMA
from latentjac.solvers.validity import check_facts, check_shapes, check_values
from latentjac.strict_json import from_json, to_json
from latentjac.tensor_files import Entry, Header, digest, read_header

SCHEMA = 1
_KEY = "latentjac-bases"


def bases_file(bases: Sequence[tuple[dict[str, Any], LocalBasis]]) -> bytes:
    """Content of a file.

    Args:
        bases: Each with its place: ``id``, ``t`` and ``layer``.
    """
    tensors: dict[str, torch.Tensor] = {}
    entries = []
    for number, (place, basis) in enumerate(bases):
        own, text = _content(basis)
        tensors |= {f"{number}.{name}": tensor for name, tensor in own.items()}
        entries.append({"place": place, "facts": text, "sha256": digest(own, text)})
    return save(tensors, metadata={"schema": str(SCHEMA), _KEY: to_json(entries)})


def check_kept(basis: LocalBasis) -> LocalBasis:
    """The basis on the CPU; raise where :func:`read_basis` would not take it.

    Raises:
        ValueError: If something in it is not what a basis has.
        TypeError: If its metadata cannot be written as JSON.
    """
    basis = basis.to("cpu")
    own, text = _content(basis)
    facts = from_json(text.encode())
    check_facts(facts, FACTS_SCHEMA)
    check_shapes({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in own.items()}, facts)
    check_values(own, facts, FACTS_SCHEMA)
    return basis


def _content(basis: LocalBasis) -> tuple[dict[str, torch.Tensor], str]:
    """Its tensors as files take them, and its facts as text."""
    own, facts = contents(basis)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}, to_json(facts)


def read_basis(path: Path, number: int, place: dict[str, Any]) -> LocalBasis:
    """One basis of a file; its tensors alone are read, and checked as :meth:`LocalBasis.load` does.

    Args:
        path: The file.
        number: Which basis.
        place: Where it must be of: ``id``, ``t`` and ``layer``.

    Raises:
        FileNotFoundError: If there is no such file.
        FileError: If it holds no such basis, or is damaged.
    """
    header = read_header("basis", path)
    try:
        entry = _entry(header, number)
        if entry.get("place") != place:
            raise ValueError(f"basis {number} must be of {place}, got {str(entry.get('place'))[:200]}")
        text, known = entry.get("facts"), entry.get("sha256")
        facts = from_json(text.encode()) if isinstance(text, str) else None
        if not isinstance(facts, dict):
            raise ValueError(f"facts of basis {number} must be a JSON object")
        check_facts(facts, FACTS_SCHEMA)
        found = {name.removeprefix(f"{number}."): e for name, e in header.entries.items() if _is_of(name, number)}
        check_shapes({name: (e.dtype, e.shape) for name, e in found.items()}, facts)
        tensors = _read(path, header, found)
        if known != digest(tensors, str(text)):
            raise ValueError(f"basis {number} must have the SHA-256 that was written with it; the file is damaged")
        check_values(tensors, facts, FACTS_SCHEMA)
    except ValueError as error:
        raise FileError(f"basis: {str(path)!r} must be bases of a run: {error}") from error
    return LocalBasis._from_file(tensors, facts)


def _entry(header: Header, number: int) -> dict[str, Any]:
    metadata = header.metadata
    if set(metadata) != {"schema", _KEY} or metadata["schema"] != str(SCHEMA):
        raise ValueError(f"metadata must be {_KEY} of schema {SCHEMA}, got {sorted(metadata)}")
    entries = from_json(metadata[_KEY].encode())
    if not isinstance(entries, list) or not 0 <= number < len(entries) or not isinstance(entries[number], dict):
        raise ValueError(f"there must be a basis {number}")
    return entries[number]


def _is_of(name: str, number: int) -> bool:
    return name.partition(".")[0] == str(number)


def _read(path: Path, header: Header, entries: dict[str, Entry]) -> dict[str, torch.Tensor]:
    found = {}
    with open_file("basis", path) as file:
        for name, entry in entries.items():
            tensor = torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
            content = tensor.flatten().view(torch.uint8).numpy()
            file.seek(header.start + entry.begin)
            if file.readinto(content) != len(content):  # type: ignore[attr-defined]
                raise FileError(f"basis: {str(path)!r} became shorter while it was read")
            found[name] = tensor
    return found
