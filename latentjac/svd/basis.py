"""The outcome of a decomposition: singular triplets, their certificate and how they were found."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from latentjac.arguments import check_device, check_dtype, check_int, shown
from latentjac.svd import files
from latentjac.svd.certificate import Certificate
from latentjac.svd.outcome import Status

_TENSORS = ("s", "v", "u", "residuals")


class Identified(Protocol):
    """What can say which network it is; a :class:`latentjac.Model` can."""

    def identity(self) -> str:
        """Short hash of architecture and weights."""
        ...


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

    For B > 1 points every shape below has a leading B.

    Attributes:
        s: Singular values ``[k]``, descending.
        v: Right singular vectors, orthonormal, ``[k, *x.shape[1:]]`` (directions in x-space).
        u: Left singular vectors, orthonormal, ``[k, *y.shape[1:]]`` (directions in h-space).
        residuals: ``|J^T u - s v| / s`` of each triplet, relative to the largest s where s is zero to rounding.
        status: How the decomposition ended; for several points the worst of :attr:`point_status`.
        jvps: Products J v that were computed, counted in vectors, over all points.
        vjps: Products J^T u that were computed, counted in vectors.
        seconds: Wall time.
        metadata: What the basis belongs to (model, point, layer) and how it was made.
        certificate: Error bounds; None for a basis from a file of the first schema.
        point_status: How it ended for each point.
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
    certificate: Certificate | None = None
    point_status: tuple[Status, ...] = ()

    @property
    def k(self) -> int:
        """Number of triplets."""
        return self.s.shape[-1]

    @property
    def points(self) -> int:
        """Number of points, B."""
        return 1 if self.s.ndim == 1 else len(self.s)

    @property
    def block_size(self) -> int | None:
        """Probes a pass; given back as ``block_size=`` it repeats the run. None for methods without one."""
        return self.metadata.get("block_size")

    def point(self, index: int) -> LocalBasis:
        """The triplets of one of several points; counts and times stay those of all.

        Raises:
            TypeError: If index is not an int.
            IndexError: If there is no such point.
        """
        index = check_int("point", "index", index)
        if not -self.points <= index < self.points:
            raise IndexError(f"point: index must be in [0, {self.points}), got {shown(index)}")
        if self.s.ndim == 1:
            return self
        status = self.point_status[index]
        certificate = self.certificate and Certificate(
            **{name: getattr(self.certificate, name)[index] for name in Certificate.names()}
        )
        tensors = {name: getattr(self, name)[index] for name in _TENSORS}
        return replace(self, **tensors, certificate=certificate, status=status, point_status=(status,))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LocalBasis:
        """The same basis on another device or in another type; the certificate stays as it is.

        Raises:
            TypeError: If dtype is no floating-point type.
            ValueError: If there is no such device.
        """
        device = check_device("to", "device", device, optional=True)
        dtype = check_dtype("to", "dtype", dtype, optional=True)
        tensors = {name: getattr(self, name).to(device=device, dtype=dtype) for name in _TENSORS}
        return replace(self, **tensors, metadata=dict(self.metadata))

    def save(self, path: str | Path) -> Path:
        """Write the basis as safetensors; the file appears whole or not at all.

        Args:
            path: File name; a missing folder is an error.

        Raises:
            ValueError: If the name does not end in ``.safetensors``.
            TypeError: If the metadata cannot be written as JSON.
            FileNotFoundError: If the folder does not exist.
        """
        tensors = {name: getattr(self, name) for name in _TENSORS}
        if self.certificate is not None:
            tensors |= {f"certificate.{name}": getattr(self.certificate, name) for name in Certificate.names()}
        facts = {
            "status": self.status.value,
            "point_status": [status.value for status in self.point_status],
            "jvps": self.jvps,
            "vjps": self.vjps,
            "seconds": self.seconds,
            "metadata": self.metadata,
        }
        return files.write(path, tensors, facts)

    @classmethod
    def load(cls, path: str | Path, model: Identified | None = None) -> LocalBasis:
        """Read a basis that :meth:`save` wrote.

        Args:
            path: File name.
            model: The network it is going to be used with; a warning says if it was computed for another.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a basis, or of a newer schema.
            TypeError: If model cannot say which network it is.
        """
        if model is not None and not callable(getattr(model, "identity", None)):
            raise TypeError(f"load: model must be a latentjac.Model or None, got {type(model).__name__}")
        basis = files.read(path, cls._from_file)
        known = basis.metadata.get("model_identity")
        if model is not None and known != model.identity():
            warnings.warn(
                f"load: the basis in {path} was computed for model {basis.metadata.get('model')!r} with identity "
                f"{known}, expected {model.identity()}; its directions may mean nothing to this model",
                stacklevel=2,
            )
        return basis

    @classmethod
    def _from_file(cls, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> LocalBasis:
        prefix = "certificate."
        bounds = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        if set(tensors) != set(_TENSORS) or len({len(tensor) for tensor in tensors.values()}) != 1:
            shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
            raise ValueError(f"expected {sorted(_TENSORS)} of one length, got {shapes}")
        fields: dict[str, Any] = {**tensors, **facts, "status": Status(facts["status"])}
        fields["point_status"] = tuple(Status(value) for value in facts.get("point_status", ()))
        return cls(**fields, certificate=Certificate(**bounds) if bounds else None)

    def __repr__(self) -> str:
        top, last = (f"{self.s[..., i].max().item():.4g}" for i in (0, -1))
        many = "" if self.s.ndim == 1 else f"{self.points} points, "
        return (
            f"LocalBasis({many}k={self.k}, s {top} .. {last}, v {list(self.v.shape)}, u {list(self.u.shape)}, "
            f"largest residual {self.residuals.max().item():.1e}, {self.status.value}, "
            f"{self.jvps} JVPs + {self.vjps} VJPs in {self.seconds:.2f} s)"
        )

    def __str__(self) -> str:
        return "\n".join([repr(self), *self._table()])

    def _table(self) -> list[str]:
        lines = []
        for i in range(self.points):
            one, status = self.point(i), ""
            if self.points > 1:
                lines.append(f"  point {i}: {one.status.value}")
            c = one.certificate
            lines.append("     i           s   s error   residual" + ("" if c is None else "   left residual"))
            for j in range(one.k):
                bound = "        -" if c is None else f"{c.s_error[j].item():9.1e}"
                status = "" if c is None else f"   {c.left_residuals[j].item():13.1e}"
                lines.append(f"  {j + 1:4d}  {one.s[j].item():10.5g} {bound}  {one.residuals[j].item():9.1e}{status}")
            if c is not None:
                lines += _facts(c)
        return lines


def _facts(c: Certificate) -> list[str]:
    gap = f"gap {c.gap.item():.3g}" if c.gap > 0 else "no gap that can be told"
    angle = f"sine of the angle to the exact subspace <= {c.angle.item():.1e}" if c.angle < 1 else "no angle bound"
    return [
        f"  next s {c.next_s.item():.5g}, {gap}; {angle}",
        f"  |VV^T - I| {c.orthogonality_v.item():.0e}, |UU^T - I| {c.orthogonality_u.item():.0e}, "
        f"adjoint mismatch {c.adjoint_mismatch.item():.0e}",
    ]
