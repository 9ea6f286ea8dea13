"""The outcome of a decomposition: singular triplets, their certificate and how they were found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from latentjac import interrupts
from latentjac.arguments import check_device, check_dtype, check_int, shown
from latentjac.notebooks import Displayed
from latentjac.public import warn
from latentjac.solvers import files
from latentjac.solvers.certificate import Certificate
from latentjac.solvers.identified import Identified, other_model
from latentjac.solvers.outcome import Status
from latentjac.solvers.validity import PREFIX, TENSORS


class ConvergenceError(RuntimeError):
    """A decomposition did not converge and ``strict=True`` was asked for.

    Attributes:
        basis: The partial result.

    Example:
        >>> try:
        ...     latentjac.local_basis(model, point, k=2, tol=1e-6, max_passes=2, strict=True)
        ... except latentjac.ConvergenceError as error:
        ...     print(error.basis.status.value)
        out of passes
    """

    def __init__(self, message: str, basis: LocalBasis) -> None:
        super().__init__(message)
        self.basis = basis

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.basis)


@dataclass(frozen=True)
class LocalBasis(Displayed):
    """Top singular triplets of a Jacobian: ``J v = s u`` and ``J^T u = s v``.

    For B > 1 points every shape below has a leading B.

    Attributes:
        s: Singular values ``[k]``, descending; exactly 0 for null vectors, which fill up u and v where the rank is less
            than k. In the largest of them, 1e-12 (float64) or 2e-6 counts as zero, ``sqrt(max(n, m))`` rounding units
            do, and so does the rounding error of the operator's products.
        v: Right singular vectors, orthonormal, ``[k, *x.shape[1:]]`` (directions in x-space).
        u: Left singular vectors, orthonormal, ``[k, *y.shape[1:]]`` (directions in h-space).
        residuals: ``|J^T u - s v| / s`` of each triplet, relative to the largest s for null vectors; inf for what was
            not computed before the end.
        status: How the decomposition ended; for several points the worst of :attr:`point_status`. Reading it tells that
            the caller knows of an interruption; see :func:`latentjac.svd`.
        jvps: Products J v that were computed, counted in vectors, over all points.
        vjps: Products J^T u that were computed, counted in vectors.
        seconds: Wall time.
        metadata: What the basis belongs to (model, point, layer) and how it was made.
        certificate: Error bounds; None for a basis from a file of the first schema.
        point_status: How it ended for each point.

    Example:
        >>> saved = basis.save("basis.safetensors")
        >>> again = latentjac.LocalBasis.load("basis.safetensors")
        >>> torch.equal(again.v, basis.v)
        True
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
        """Probes a pass; ``Krylov(block_size=...)`` with it repeats the run. None for ``Randomized``."""
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
        unseen = interrupts.unseen(self)
        status = self.point_status[index]
        certificate = self.certificate and Certificate(
            **{name: getattr(self.certificate, name)[index] for name in Certificate.names()}
        )
        tensors = {name: getattr(self, name)[index] for name in TENSORS}
        return self._with(unseen, **tensors, certificate=certificate, status=status, point_status=(status,))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LocalBasis:
        """The same basis on another device or in another type; the certificate stays as it is.

        Raises:
            TypeError: If dtype is no floating-point type.
            ValueError: If there is no such device.
        """
        device = check_device("to", "device", device, optional=True)
        dtype = check_dtype("to", "dtype", dtype, optional=True)
        tensors = {name: getattr(self, name).to(device=device, dtype=dtype) for name in TENSORS}
        return self._with(interrupts.unseen(self), **tensors, metadata=dict(self.metadata))

    def _with(self, unseen: bool, **changes: Any) -> LocalBasis:
        """A changed copy; whether somebody knows of an interruption does not change."""
        copy = replace(self, **changes)
        if unseen:
            interrupts.leave(copy)
        return copy

    def save(self, path: str | Path) -> Path:
        """Write the basis as safetensors; the file appears whole or not at all.

        Numbers in the metadata that JSON lacks (NaN, infinities) are written as the texts ``"NaN"``, ``"Infinity"`` and
        ``"-Infinity"``.

        Args:
            path: File name; a missing folder is an error. An older basis there is replaced.

        Raises:
            ValueError: If the name does not end in ``.safetensors``, or :meth:`load` would not take the basis.
            TypeError: If the metadata cannot be written as JSON.
            FileNotFoundError: If the folder does not exist.
            FileExistsError: If there is a file that is no basis.
            OSError: If it cannot be written.
        """
        return files.write(path, *contents(self))

    @classmethod
    def load(cls, path: str | Path, model: Identified | None = None) -> LocalBasis:
        """Read a basis that :meth:`save` wrote.

        Nothing in the file is trusted: types and shapes, finite values, the order of s, rows that are orthonormal to
        1e-5 (float64), 1e-4 (float32) or 2e-2 (float16, bfloat16), kinds of all facts, and a sum of everything are
        checked, before any tensor is read where the header tells. Rows may be zero where s is. Rows of u are of unit
        length but not orthogonal in bases of ``Subspace(vectors="park2023")``.

        Args:
            path: File name.
            model: The network it is going to be used with; a warning says if it was computed for another.

        Raises:
            FileNotFoundError: If there is no such file.
            latentjac.files.FileError: If it is not a basis, damaged, or of a newer schema; the message names the file
                and the fault. It is a ValueError.
            ValueError: If the name does not end in ``.safetensors``.
            TypeError: If model cannot say which network it is.
        """
        if model is not None and not callable(getattr(model, "identity", None)):
            raise TypeError(f"load: model must be a latentjac.Model or None, got {type(model).__name__}")
        basis = cls._from_file(*files.read(path))
        other = None if model is None else other_model(basis.metadata, model)
        if model is not None and other is not None:
            warn(
                f"load: the basis in {path} was computed for model {other}, expected one with identity "
                f"{model.identity()}; its directions may mean nothing to this model"
            )
        return basis

    @classmethod
    def _from_file(cls, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> LocalBasis:
        bounds = {name: tensors[PREFIX + name] for name in Certificate.names() if PREFIX + name in tensors}
        return cls(
            **{name: tensors[name] for name in TENSORS},
            status=Status(facts["status"]),
            jvps=facts["jvps"],
            vjps=facts["vjps"],
            seconds=facts["seconds"],
            metadata=facts["metadata"],
            certificate=Certificate(**bounds) if bounds else None,
            point_status=tuple(Status(value) for value in facts.get("point_status", ())),
        )

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


def contents(basis: LocalBasis) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of a basis, as files hold them."""
    tensors = {name: getattr(basis, name) for name in TENSORS}
    if basis.certificate is not None:
        tensors |= {PREFIX + name: getattr(basis.certificate, name) for name in Certificate.names()}
    facts = {
        "status": basis.status.value,
        "point_status": [status.value for status in basis.point_status],
        "jvps": basis.jvps,
        "vjps": basis.vjps,
        "seconds": basis.seconds,
        "metadata": basis.metadata,
    }
    return tensors, facts


class _Noticed:
    """How a basis ended: who reads it knows whether Ctrl-C did it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, basis: LocalBasis | None, owner: type | None = None) -> Any:
        if basis is None:
            return self
        interrupts.see(basis)
        return vars(basis)[self._name]

    def __set__(self, basis: LocalBasis, value: Any) -> None:
        vars(basis)[self._name] = value


for _name in ("status", "point_status"):  # after the class was made: a dataclass takes them for defaults
    setattr(LocalBasis, _name, _Noticed(_name))


def _facts(c: Certificate) -> list[str]:
    gap = f"gap {c.gap.item():.3g}" if c.gap > 0 else "no gap that can be told"
    angle = f"sine of the angle to the exact subspace <= {c.angle.item():.1e}" if c.angle < 1 else "no angle bound"
    return [
        f"  next s {c.next_s.item():.5g}, {gap}; {angle}",
        f"  |VV^T - I| {c.orthogonality_v.item():.0e}, |UU^T - I| {c.orthogonality_u.item():.0e}, "
        f"adjoint mismatch {c.adjoint_mismatch.item():.0e}",
    ]
