"""Files of points and trajectories: safetensors with facts as JSON in the header, never pickle.

The header's metadata are ``schema``, the number of the form of the file; ``latentjac-point`` or
``latentjac-trajectory``, the facts; and ``sha256`` of tensors and facts, so that no damage goes unnoticed. Tensors of
the conditioning are called ``conditioning.<name>``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save

from latentjac.arguments import check_path, is_number
from latentjac.diffusion.schedule import Schedule
from latentjac.files import FileError, write_bytes
from latentjac.models import Conditioning
from latentjac.strict_json import from_json, to_json
from latentjac.tensor_files import Header, check_replaced, digest, read_tensors

SCHEMA = 1
LARGEST_FILE = 64 * 2**30  # bytes
_CONDITIONING = "conditioning."

Made = TypeVar("Made")


def write(
    path: str | Path, kind: str, tensors: Mapping[str, torch.Tensor], conditioning: Conditioning, facts: dict[str, Any]
) -> Path:
    """Write what a thing of a kind consists of. Errors as in :meth:`Point.save`."""
    path = _checked("save", path)
    check_replaced(path, f"latentjac-{kind}", kind)
    everything = {**tensors, **{f"{_CONDITIONING}{name}": tensor for name, tensor in conditioning.flat().items()}}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in everything.items()}
    text = to_json(facts)
    metadata = {"schema": str(SCHEMA), f"latentjac-{kind}": text, "sha256": digest(plain, text)}
    return write_bytes(path, save(plain, metadata=metadata))


def read(
    path: str | Path,
    kind: str,
    names: Sequence[str],
    known: Sequence[str],
    make: Callable[[dict[str, torch.Tensor], Conditioning, Schedule, dict[str, Any]], Made],
    later: Sequence[str] = (),
) -> Made:
    """What :func:`write` wrote, all checked. Errors as in :meth:`Point.load`.

    Args:
        path: The file.
        kind: What it holds.
        names: Of its tensors, beside those of the conditioning.
        known: Of its facts, beside the schedule.
        make: Makes a thing of tensors, conditioning, schedule and facts.
        later: Of facts that files of before do not have: all of them, or none, which are empty lists then.
    """
    path = _checked("load", path)
    what = f"a {kind} saved by latentjac"
    facts: dict[str, Any] = {}
    metadata: dict[str, str] = {}

    def check(header: Header) -> None:
        metadata.update(header.metadata)
        if max((entry.end for entry in header.entries.values()), default=0) > LARGEST_FILE:
            raise ValueError(f"tensors must have at most {LARGEST_FILE} bytes (LARGEST_FILE)")
        facts.update(_facts(kind, header.metadata, known, later))
        if {name for name in header.entries if not name.startswith(_CONDITIONING)} != set(names):
            raise ValueError(f"tensors must be {list(names)} and those of a conditioning, got {sorted(header.entries)}")

    tensors = dict(read_tensors("load", path, what, check))
    try:
        if metadata["sha256"] != digest(tensors, metadata[f"latentjac-{kind}"]):
            raise ValueError("tensors and facts must have the SHA-256 that was written with them; the file is damaged")
        held = {n.removeprefix(_CONDITIONING): tensors.pop(n) for n in list(tensors) if n.startswith(_CONDITIONING)}
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{name} must be finite, got NaN or Inf")
        return make(tensors, Conditioning.from_flat(held), Schedule.from_dict(facts.pop("schedule")), facts)
    except (TypeError, ValueError) as error:
        raise FileError(f"load: path must be {what}, got {str(path)!r}: {error}") from error


def numbers(facts: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """A list of finite numbers among the facts of a file as a tuple of floats."""
    found = values(facts, name)
    if not all(is_number(value) and math.isfinite(value) for value in found):
        raise ValueError(f"{name} must be a list of numbers")
    return tuple(map(float, found))


def values(facts: Mapping[str, Any], name: str) -> list[Any]:
    """A list among the facts of a file."""
    found = facts[name]
    if not isinstance(found, list):
        raise ValueError(f"{name} must be a list")
    return found


def count(facts: Mapping[str, Any]) -> int:
    """The number of evaluations among the facts of a file."""
    value = facts["evaluations"]
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError("evaluations must be an int from 0")
    return value


def _facts(kind: str, metadata: Mapping[str, str], known: Sequence[str], later: Sequence[str]) -> dict[str, Any]:
    expected = {"schema", f"latentjac-{kind}", "sha256"}
    if set(metadata) != expected:
        raise ValueError(f"metadata must be {sorted(expected)}, got {sorted(metadata)}")
    if metadata["schema"] != str(SCHEMA):
        raise ValueError(f"schema must be {SCHEMA}, got {metadata['schema'][:20]!r}")
    facts = from_json(metadata[f"latentjac-{kind}"].encode())
    usual = {*known, "schedule"}
    if not isinstance(facts, dict) or set(facts) not in (usual, {*usual, *later}):
        got = sorted(facts) if isinstance(facts, dict) else type(facts).__name__
        raise ValueError(f"facts must be {sorted({*usual, *later})}, got {got}")
    return {name: [] for name in later} | facts


def _checked(function: str, path: Any) -> Path:
    path = check_path(function, "path", path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{function}: path must end in .safetensors, got {str(path)!r}")
    return path
