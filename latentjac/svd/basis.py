"""The outcome of a decomposition: singular triplets, their residuals and how they were found."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

_SCHEMA = 1


class Status(str, Enum):
    """How a decomposition ended."""

    CONVERGED = "converged"
    OUT_OF_PASSES = "out of passes"
    STAGNATED = "stagnated at working precision"
    INTERRUPTED = "interrupted"


class ConvergenceError(RuntimeError):
    """A decomposition did not converge and ``strict=True`` was asked for.

    Attributes:
        basis: The partial result.
    """

    def __init__(self, message: str, basis: LocalBasis) -> None:
        super().__init__(message)
        self.basis = basis


@dataclass(frozen=True)
class LocalBasis:
    """Top singular triplets of a Jacobian: ``J v = s u`` and ``J^T u = s v``.

    Attributes:
        s: Singular values ``[k]``, descending.
        v: Right singular vectors, orthonormal, ``[k, *x.shape[1:]]`` (directions in x-space).
        u: Left singular vectors, orthonormal, ``[k, *y.shape[1:]]`` (directions in h-space).
        residuals: ``|J^T u - s v| / s`` of each triplet; ``J v = s u`` holds to rounding.
        status: How the decomposition ended.
        jvps: Products J v that were computed, counted in vectors.
        vjps: Products J^T u that were computed, counted in vectors.
        seconds: Wall time.
        metadata: What the basis belongs to (model, point, layer) and how it was made.
    """

    s: torch.Tensor
    v: torch.Tensor
    u: torch.Tensor
    residuals: torch.Tensor
    status: Status
    jvps: int
    vjps: int
    seconds: float
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Number of triplets."""
        return len(self.s)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LocalBasis:
        """The same basis on another device or in another type."""
        tensors = {n: getattr(self, n).to(device=device, dtype=dtype) for n in ("s", "v", "u", "residuals")}
        return LocalBasis(
            **tensors,
            status=self.status,
            jvps=self.jvps,
            vjps=self.vjps,
            seconds=self.seconds,
            metadata=dict(self.metadata),
        )

    def save(self, path: str | Path) -> Path:
        """Write the basis as safetensors; the file appears whole or not at all.

        Args:
            path: File name; a missing folder is an error.

        Raises:
            ValueError: If the name does not end in ``.safetensors``.
            TypeError: If the metadata cannot be written as JSON.
            FileNotFoundError: If the folder does not exist.
        """
        path = _check_path("save", path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"save: path must lie in an existing folder, got {str(path)!r}")
        facts = {
            "status": self.status.value,
            "jvps": self.jvps,
            "vjps": self.vjps,
            "seconds": self.seconds,
            "metadata": self.metadata,
        }
        tensors = {n: getattr(self, n).detach().cpu().contiguous() for n in ("s", "v", "u", "residuals")}
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(save(tensors, metadata={"schema": str(_SCHEMA), "latentjac": json.dumps(facts)}))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> LocalBasis:
        """Read a basis that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a basis, or of a newer schema.
        """
        path = _check_path("load", path)
        if not path.is_file():
            raise FileNotFoundError(f"load: path must be an existing file, got {str(path)!r}")
        try:
            with safe_open(path, "pt") as f:
                header = f.metadata() or {}
                tensors = {name: f.get_tensor(name) for name in f.keys()}
            facts, schema = json.loads(header["latentjac"]), int(header["schema"])
            if schema <= _SCHEMA:
                return cls._from_file(tensors, facts)
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"load: path must be a basis saved by latentjac, got {str(path)!r} ({error})") from error
        raise ValueError(f"load: schema must be at most {_SCHEMA}, got {schema}; a newer latentjac wrote {path}")

    @classmethod
    def _from_file(cls, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> LocalBasis:
        names = {"s", "v", "u", "residuals"}
        if set(tensors) != names or len({len(tensors[name]) for name in names}) != 1:
            shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
            raise ValueError(f"expected {sorted(names)} of one length, got {shapes}")
        fields: dict[str, Any] = {**tensors, **facts, "status": Status(facts["status"])}
        return cls(**fields)

    def __repr__(self) -> str:
        top, last = (f"{self.s[i].item():.4g}" for i in (0, -1))
        return (
            f"LocalBasis(k={self.k}, s {top} .. {last}, v {list(self.v.shape)}, u {list(self.u.shape)}, "
            f"largest residual {self.residuals.max().item():.1e}, {self.status.value}, "
            f"{self.jvps} JVPs + {self.vjps} VJPs in {self.seconds:.2f} s)"
        )


def _check_path(name: str, path: str | Path) -> Path:
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{name}: path must be a str or Path, got {type(path).__name__}")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{name}: path must end in .safetensors, got {str(path)!r}")
    return Path(path)
