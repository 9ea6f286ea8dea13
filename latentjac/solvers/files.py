"""Files of bases: safetensors with facts as JSON in the header, never pickle.

The header's metadata are ``schema``, the number of the form of the file; ``latentjac``, the facts; and, from schema 3
on, ``sha256`` of tensors and facts, so that no damage goes unnoticed. Schema 2 had no such sum, schema 1 neither
certificates nor several points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from latentjac.files import FileError, write_bytes
from latentjac.solvers.validity import check_facts, check_shapes, check_values
from latentjac.strict_json import from_json, to_json
from latentjac.tensor_files import Header, check_replaced, digest, read_tensors

SCHEMA = 3
LARGEST_BASIS = 8 * 2**30  # bytes of a file

_KIND = "a basis saved by latentjac"
_KEYS = {1: {"schema", "latentjac"}, 2: {"schema", "latentjac"}, 3: {"schema", "latentjac", "sha256"}}


def write(path: str | Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> Path:
    """Write tensors and facts; the file appears whole or not at all. Errors as in :meth:`LocalBasis.save`."""
    path = _check_path("save", path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: path must lie in an existing folder, got {str(path)!r}")
    check_replaced(path, "latentjac", "basis")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = to_json(facts)
    try:
        # What is read back: numbers that are not finite are texts there.
        check_facts(from_json(text.encode()), SCHEMA)
        check_shapes({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}, facts)
        _check_size(sum(tensor.nbytes for tensor in tensors.values()))
        check_values(tensors, facts, SCHEMA)
    except ValueError as error:
        raise ValueError(f"save: basis must be one that can be loaded again: {error}") from error
    metadata = {"schema": str(SCHEMA), "latentjac": text, "sha256": digest(tensors, text)}
    return write_bytes(path, save(tensors, metadata=metadata))


def read(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts that :func:`write` wrote, all checked. Errors as in :meth:`LocalBasis.load`."""
    path = _check_path("load", path)
    facts: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    schema = 0

    def check(header: Header) -> None:
        nonlocal schema
        _check_size(max((entry.end for entry in header.entries.values()), default=0))
        schema = _schema_of(header.metadata)
        metadata.update(header.metadata)
        facts.update(_facts_of(header.metadata))
        check_facts(facts, schema)
        check_shapes({name: (entry.dtype, entry.shape) for name, entry in header.entries.items()}, facts)

    tensors = dict(read_tensors("load", path, _KIND, check))
    try:
        if schema == SCHEMA and metadata["sha256"] != digest(tensors, metadata["latentjac"]):
            raise ValueError("tensors and facts must have the SHA-256 that was written with them; the file is damaged")
        check_values(tensors, facts, schema)
    except ValueError as error:
        raise FileError(f"load: path must be {_KIND}, got {str(path)!r}: {error}") from error
    return tensors, facts


def _schema_of(metadata: dict[str, str]) -> int:
    if not {"schema", "latentjac"} <= set(metadata):
        raise ValueError("metadata must hold schema and facts")
    known = {str(number): number for number in _KEYS}
    schema = metadata["schema"]
    if schema not in known:
        newer = (
            "; a newer latentjac wrote it" if schema.isdecimal() and len(schema) < 9 and int(schema) > SCHEMA else ""
        )
        raise ValueError(f"schema must be one of {list(known)}, got {schema[:20]!r}{newer}")
    if set(metadata) != _KEYS[known[schema]]:
        raise ValueError(f"metadata of schema {schema} must be {sorted(_KEYS[known[schema]])}, got {sorted(metadata)}")
    return known[schema]


def _facts_of(metadata: dict[str, str]) -> dict[str, Any]:
    facts = from_json(metadata["latentjac"].encode())
    if not isinstance(facts, dict):
        raise ValueError(f"facts must be a JSON object, got {type(facts).__name__}")
    return facts


def _check_size(size: int) -> None:
    if size > LARGEST_BASIS:
        raise ValueError(f"tensors must have at most {LARGEST_BASIS} bytes (LARGEST_BASIS), got {size}")


def _check_path(name: str, path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{name}: path must be a str or Path, got {type(path).__name__}")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{name}: path must end in .safetensors, got {str(path)!r}")
    return Path(path)
