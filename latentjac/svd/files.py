"""Files of bases: safetensors with facts as JSON in the header, never pickle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from latentjac.files import write_bytes

_SCHEMA = 2  # 1 had neither certificates nor several points

T = TypeVar("T")


def write(path: str | Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> Path:
    """Write tensors and facts; the file appears whole or not at all. Errors as in :meth:`LocalBasis.save`."""
    path = _check_path("save", path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: path must lie in an existing folder, got {str(path)!r}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return write_bytes(path, save(tensors, metadata={"schema": str(_SCHEMA), "latentjac": json.dumps(facts)}))


def read(path: str | Path, build: Callable[[dict[str, torch.Tensor], dict[str, Any]], T]) -> T:
    """Read what :func:`write` wrote and build an object of it. Errors as in :meth:`LocalBasis.load`."""
    path = _check_path("load", path)
    if not path.is_file():
        raise FileNotFoundError(f"load: path must be an existing file, got {str(path)!r}")
    try:
        with safe_open(path, "pt") as f:
            header = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}
        facts, schema = json.loads(header["latentjac"]), int(header["schema"])
        if schema <= _SCHEMA:
            return build(tensors, facts)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"load: path must be a basis saved by latentjac, got {str(path)!r} ({error})") from error
    raise ValueError(f"load: schema must be at most {_SCHEMA}, got {schema}; a newer latentjac wrote {path}")


def _check_path(name: str, path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{name}: path must be a str or Path, got {type(path).__name__}")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{name}: path must end in .safetensors, got {str(path)!r}")
    return Path(path)
