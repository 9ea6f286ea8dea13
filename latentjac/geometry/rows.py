"""Tangent spaces and directions as float64 rows, checked at the edge of every measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from latentjac.arguments import check_choice, check_kind, check_tensor
from latentjac.interrupts import raise_unseen
from latentjac.public import warn
from latentjac.solvers import LocalBasis
from latentjac.solvers.building import under_construction
from latentjac.solvers.orthonormal import orthogonality, polish

SPACES = ("x", "h")
# Rows of a converged float32 basis are orthonormal to 1e-6; more than this is another kind of input.
NOT_ORTHONORMAL = 1e-3


def check_basis(name: str, argument: str, value: Any) -> None:
    """Raise unless value is a :class:`latentjac.LocalBasis`; warn where it did not converge.

    Raises:
        KeyboardInterrupt: If Ctrl-C ended its computation and nobody has seen that.
    """
    check_kind(name, argument, value, LocalBasis, "a LocalBasis")
    if under_construction() is not None:
        return  # whoever builds on it has said so when it was computed
    raise_unseen(name)
    if not value.status.fine:
        largest = value.residuals.max().item()
        warn(f"{name}: {argument} did not converge: {value.status.value}, with largest residual {largest:.1e}")


def tangent_rows(name: str, argument: str, value: Any, space: str) -> torch.Tensor:
    """Orthonormal rows ``[B, k, n]`` of tangent spaces.

    Args:
        name: Function that was called, for messages.
        argument: Its argument.
        value: A basis, whose v (``space="x"``) or u (``"h"``) counts, or rows ``[k, n]`` or ``[B, k, n]``.
        space: ``"x"`` or ``"h"``.
    """
    check_choice(name, "space", space, SPACES)
    check_kind(name, argument, value, (LocalBasis, torch.Tensor), "a LocalBasis or a torch.Tensor")
    if not isinstance(value, LocalBasis):
        value = check_tensor(name, argument, value)
    if isinstance(value, LocalBasis):
        check_basis(name, argument, value)
        rows = (value.v if space == "x" else value.u).reshape(value.points, value.k, -1)
    elif value.ndim not in (2, 3) or value.numel() == 0 or value.shape[-2] > value.shape[-1]:
        raise ValueError(f"{name}: {argument} must have shape [k, n] or [B, k, n], k <= n, got {list(value.shape)}")
    else:
        rows = value if value.ndim == 3 else value[None]
    rows = check_tensor(name, argument, rows)
    error = orthogonality(rows)
    if error > NOT_ORTHONORMAL:
        raise ValueError(f"{name}: {argument} must have orthonormal rows, got |QQ^T - I| of {error:.1e}")
    return polish(rows.double())


def stack_tangent_rows(name: str, bases: Any, space: str) -> torch.Tensor:
    """Orthonormal rows ``[N, k, n]`` of N samples' tangent spaces, given as tensor, basis or sequence of either."""
    if isinstance(bases, (LocalBasis, torch.Tensor)):
        rows = tangent_rows(name, "bases", bases, space)
    elif isinstance(bases, Sequence) and len(bases):
        parts = [tangent_rows(name, f"bases[{i}]", basis, space) for i, basis in enumerate(bases)]
        shapes = {tuple(part.shape[1:]) for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"{name}: bases must agree in k and in size, got [k, n] of {sorted(shapes)}")
        rows = torch.cat(parts)
    else:
        got = "none" if isinstance(bases, Sequence) else type(bases).__name__
        raise TypeError(f"{name}: bases must be a LocalBasis or a sequence of them, got {got}")
    if len(rows) < 2:
        raise ValueError(f"{name}: bases must hold at least 2 samples, got {len(rows)}")
    return rows


def check_points(name: str, argument: str, value: Any) -> torch.Tensor:
    """The points ``[B, ...]``; raise unless they are finite floating-point vectors or arrays."""
    x = check_tensor(name, argument, value)
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"{name}: {argument} must have shape [B, ...], got {list(x.shape)}")
    return x


def directions_at(
    name: str, argument: str, value: Any, x: torch.Tensor, unit: bool = False, of: str = "x"
) -> torch.Tensor:
    """Directions ``[B, q, *x.shape[1:]]`` at the B points of x, in its type.

    Args:
        name: Function that was called, for messages.
        argument: Its argument.
        value: ``[q, *x.shape[1:]]``, the same for all points, or ``[B, q, *x.shape[1:]]``.
        x: Points ``[B, ...]``.
        unit: Refuse zeros and give unit directions.
        of: The argument that x comes from, for messages.
    """
    given = check_tensor(name, argument, value)
    rows = given.expand(len(x), *given.shape) if given.ndim == x.ndim else given
    if rows.ndim != x.ndim + 1 or rows.shape[2:] != x.shape[1:] or len(rows) != len(x) or rows.numel() == 0:
        one = ", ".join(map(str, ["q", *x.shape[1:]]))
        got = f"{list(given.shape)} for the shape of {of}"
        raise ValueError(f"{name}: {argument} must have shape [{one}] or [{len(x)}, {one}], got {got}")
    if unit:
        rows = _unit(name, argument, rows)
    return rows.to(x.device, x.dtype)


def _unit(name: str, argument: str, rows: torch.Tensor) -> torch.Tensor:
    """Unit directions ``[B, q, ...]`` in float64, however small or large the given ones are."""
    wide = rows.double()
    column = (*rows.shape[:2], *[1] * (rows.ndim - 2))
    largest = wide.flatten(2).abs().amax(2)
    if not largest.all():
        raise ValueError(f"{name}: {argument} must not be zero, got zero at {(largest == 0).nonzero()[0].tolist()}")
    wide = wide / largest.view(column)  # first, so that squares of very small or large entries stay finite
    return wide / wide.flatten(2).norm(dim=2).view(column)
