"""Jacobians of functions of several tensors, or with several results: one Jacobian over all of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from latentjac.arguments import check_tensor
from latentjac.linearization.interface import Linearization, check_base, check_probes

Tensor = torch.Tensor
# One tensor, or several side by side.
Parts = Tensor | tuple[Tensor, ...]


class SeveralResultsError(TypeError):
    """f returned several tensors where one was expected."""


class JointLinearization:
    """The Jacobian of ``y = f(*x, *constants)`` where x, y or both are tuples of tensors.

    Dimension 0 of every tensor is the batch of B points. Tangents and cotangents come as tuples of the same kind; a
    block of k probes of ``(z, t)`` is ``([k, *z.shape], [k, *t.shape])``. Under it lies a linearization of one row of
    numbers for each point, which solvers take: ``latentjac.svd(lin.flat, k=4)``.

    Attributes:
        x: Base point.
        y: ``f(*x, *constants)`` there.
        flat: The same Jacobian of tensors side by side, ``[B, n]``; what is one tensor stays as it is.

    Example:
        The total derivative that losses of MeanFlow need (Geng et al. 2025, equation 6), without a second trace a step:

        >>> import torch, latentjac
        >>> u = lambda z, t, r: torch.tanh(z * t + r)
        >>> z, t, r = torch.randn(4, 3), torch.rand(4, 1), torch.rand(4, 1)
        >>> lin = latentjac.linearize(u, (z, t, r))
        >>> v, one, zero = torch.randn(1, 4, 3), torch.ones(1, 4, 1), torch.zeros(1, 4, 1)
        >>> lin.jvp((v, one, zero)).shape
        torch.Size([1, 4, 3])
    """

    def __init__(self, flat: Linearization, x: Parts, several: Callable[[], list[torch.Size] | None]) -> None:
        self.flat = flat
        self._x = None if isinstance(x, Tensor) else [part.shape for part in x]
        self._y = several()

    @property
    def x(self) -> Parts:
        """Base point."""
        return _apart(self.flat.x, self._x)

    @property
    def y(self) -> Parts:
        """``f(*x, *constants)`` there."""
        return _apart(self.flat.y, self._y)

    def jvp(self, v: Parts) -> Parts:
        """Tangents ``J v`` of k probes, in the form of y.

        Args:
            v: Probes in the form of x, each ``[k, *part.shape]`` with dtype and device of that part.

        Raises:
            TypeError: If v has another form than x.
            ValueError: If a shape, dtype or device differs, or numbers of probes do.
        """
        return self.split_y(self.flat.jvp(_together("jvp", "v", v, self.x)))

    def vjp(self, u: Parts) -> Parts:
        """Cotangents ``J^T u`` of k probes in the form of y, in the form of x; errors as of :meth:`jvp`."""
        return self.split_x(self.flat.vjp(_together("vjp", "u", u, self.y)))

    def split_x(self, rows: Tensor) -> Parts:
        """Rows ``[k, n]`` or ``[k, B, n]`` as svd gives them, such as right singular vectors, in the form of x."""
        return _apart(_check_rows("split_x", rows, self.flat.x), self._x)

    def split_y(self, rows: Tensor) -> Parts:
        """Rows ``[k, m]`` or ``[k, B, m]``, such as left singular vectors, in the form of y."""
        return _apart(_check_rows("split_y", rows, self.flat.y), self._y)

    def rebase(self, x: Parts, *constants: Any) -> None:
        """Move to another base point of the same form; see :meth:`Linearization.rebase`."""
        self.flat.rebase(side_by_side("rebase", x, self._x), *constants)

    def check_adjoint(self, generator: torch.Generator | None = None) -> float:
        """See :meth:`Linearization.check_adjoint`."""
        return self.flat.check_adjoint(generator)

    def __repr__(self) -> str:
        x, y = (_shapes(parts) for parts in (self.x, self.y))
        return f"JointLinearization(x {x} -> y {y}, backend={self.flat.backend!r})"


def side_by_side(function: str, x: Any, like: Sequence[torch.Size] | None = None) -> Tensor:
    """Several tensors ``[B, ...]`` as one ``[B, n]``; one tensor as it is.

    Raises:
        TypeError: If x is neither a tensor nor a tuple of such, or another kind or number of them than ``like``.
        ValueError: If they differ in batch, type or device, or in shape from ``like``.
    """
    if isinstance(x, Tensor) and like is None:
        return x
    if not isinstance(x, tuple) or not x or (like is not None and len(x) != len(like)):
        count = "at least one tensor" if like is None else f"{len(like)} tensors"
        got = f"{len(x)}" if isinstance(x, tuple) else type(x).__name__
        raise TypeError(f"{function}: x must be a tuple of {count}, got {got}")
    for i, part in enumerate(x):
        check_base(function, part)
        first = x[0]
        if len(part) != len(first) or part.dtype != first.dtype or part.device != first.device:
            expected, got = (f"{len(p)} points {p.dtype} on {p.device}" for p in (first, part))
            raise ValueError(f"{function}: x[{i}] must hold {expected}, as x[0] does, got {got}")
        if like is not None and part.shape != like[i]:
            raise ValueError(f"{function}: x[{i}] must have shape {list(like[i])}, got {list(part.shape)}")
    return torch.cat([part.reshape(len(part), -1) for part in x], dim=1)


def of_one(
    f: Callable[..., Any], shapes: Sequence[torch.Size] | None
) -> tuple[Callable[..., Tensor], Callable[[], list[torch.Size] | None]]:
    """A function of one tensor with one result, and what gives the shapes of its results once it has run.

    Args:
        f: The function.
        shapes: Of the tensors that it takes before its constants; None where that is one tensor.
    """
    found: list[list[torch.Size] | None] = [None]

    def joined(x: Tensor, *constants: Any) -> Tensor:
        parts = (x,) if shapes is None else _apart(x, shapes)
        y = f(*parts, *constants)
        if not isinstance(y, (tuple, list)) or not all(isinstance(part, Tensor) and part.ndim for part in y):
            return y
        found[0] = [part.shape for part in y]
        return torch.cat([part.reshape(part.shape[0], -1) for part in y], dim=1)

    return joined, lambda: found[0]


def _apart(rows: Tensor, shapes: Sequence[torch.Size] | None) -> Any:
    """Rows ``[..., n]`` as tensors ``[..., *shape[1:]]``."""
    if shapes is None:
        return rows
    pieces = rows.split([prod(shape[1:]) for shape in shapes], dim=-1)
    return tuple(piece.reshape(*rows.shape[:-1], *shape[1:]) for piece, shape in zip(pieces, shapes, strict=True))


def _check_rows(function: str, rows: Any, like: Tensor) -> Tensor:
    rows = check_tensor(function, "rows", rows)
    if rows.ndim < like.ndim - 1 or (like.ndim > 1 and rows.shape[1 - like.ndim :] != like.shape[1:]):
        expected = ", ".join(["...", *map(str, like.shape[1:])])
        raise ValueError(f"{function}: rows must have shape [{expected}], got {list(rows.shape)}")
    return rows


def _together(function: str, argument: str, probes: Any, like: Parts) -> Tensor:
    if isinstance(like, Tensor):
        check_probes(function, argument, probes, like)
        return probes
    if not isinstance(probes, tuple) or len(probes) != len(like):
        got = f"{len(probes)}" if isinstance(probes, tuple) else type(probes).__name__
        raise TypeError(f"{function}: {argument} must be a tuple of {len(like)} tensors, got {got}")
    for i, (part, one) in enumerate(zip(probes, like, strict=True)):
        check_probes(function, f"{argument}[{i}]", part, one)
        if len(part) != len(probes[0]):
            raise ValueError(
                f"{function}: {argument}[{i}] must hold {len(probes[0])} probes, as {argument}[0] does, got {len(part)}"
            )
    return torch.cat([part.reshape(*part.shape[:2], -1) for part in probes], dim=2)


def _shapes(parts: Parts) -> str:
    return str(list(parts.shape)) if isinstance(parts, Tensor) else str([list(part.shape) for part in parts])
