"""What the solvers accept, and the messages for what they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.arguments import (
    FLOATING,
    check_bool,
    check_callable,
    check_dense,
    check_generator,
    check_int,
    check_kind,
    check_number,
    check_tensor,
    shown,
)
from latentjac.solvers.basis import LocalBasis
from latentjac.solvers.operator import Products
from latentjac.solvers.options import SOLVERS, Solver
from latentjac.solvers.orthonormal import orthonormalize

# Defaults of what all solvers share.
TOL = 1e-3
MAX_PASSES = 1000


@dataclass(frozen=True)
class Settings:
    """What :func:`latentjac.svd` is asked for, as described there."""

    k: int
    tol: float
    solver: Solver
    max_passes: int
    max_seconds: float | None


def check(
    operator: Any, settings: Settings, warm_start: Any, refine_with: Any
) -> tuple[Settings, LocalBasis | torch.Tensor | None]:
    """Settings and warm start in their plain form, if they and the operators given to :func:`latentjac.svd` fit."""
    check_operator("svd", "operator", operator)
    settings = check_settings("svd", settings)
    check_rank_limit("svd", operator, settings.k)
    if refine_with is not None:
        check_operator("svd", "refine_with", refine_with)
        shapes = [[list(o.x.shape), list(o.y.shape)] for o in (operator, refine_with)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"svd: refine_with must have the shapes of operator, {shapes[0]}, got {shapes[1]}")
    return settings, check_warm_start("svd", warm_start, operator.x, operator.y)


def check_settings(function: str, settings: Settings) -> Settings:
    """The settings in their plain form, if they are of the right kind and in range.

    Args:
        function: That was called, for messages.
        settings: As they were given.
    """
    return Settings(
        k=check_int(function, "k", settings.k, 1),
        tol=check_number(function, "tol", settings.tol, 0, 1),
        solver=check_kind(function, "solver", settings.solver, SOLVERS, "a Krylov, Subspace or Randomized"),
        max_passes=check_int(function, "max_passes", settings.max_passes, 2),
        max_seconds=check_number(function, "max_seconds", settings.max_seconds, 0, math.inf, optional=True),
    )


def check_run(function: str, generator: Any, callback: Any, progress: Any, strict: Any) -> None:
    """Raise unless what accompanies a run of the solver is of the right kind."""
    check_generator(function, generator)
    check_callable(function, "callback", callback, optional=True)
    check_bool(function, "progress", progress)
    check_bool(function, "strict", strict)


def check_rank_limit(function: str, operator: Any, k: int) -> None:
    """Raise unless the operator has as many singular values at a point."""
    limit = min(operator.x.numel(), operator.y.numel()) // operator.x.shape[0]
    if k > limit:
        raise ValueError(f"{function}: k must be in [1, min(n, m)] = [1, {limit}], got {shown(k)}")


def check_operator(function: str, name: str, operator: Any) -> None:
    """Raise unless the operator has what :class:`latentjac.solvers.LinearOperator` asks for."""
    missing = [a for a in ("x", "y", "jvp", "vjp") if not hasattr(operator, a)]
    if missing or isinstance(operator, type):
        kind = type(operator).__name__
        raise TypeError(f"{function}: {name} must have x, y, jvp and vjp, got {kind} without {missing}")
    for part in ("x", "y"):
        value = check_dense(function, f"{name}.{part}", getattr(operator, part))
        if value.ndim == 0 or value.numel() == 0 or len(value) != len(operator.x) or value.dtype not in FLOATING:
            got = f"{list(value.shape)} {value.dtype}"
            raise ValueError(f"{function}: {name}.{part} must be floating-point, one entry a point of x, got {got}")
    for part in ("jvp", "vjp"):
        check_callable(function, f"{name}.{part}", getattr(operator, part))


def check_warm_start(
    function: str, warm_start: Any, x: torch.Tensor, y: torch.Tensor | None = None
) -> LocalBasis | torch.Tensor | None:
    """A warm start in its plain form, if it holds directions at samples x, or a basis whose left vectors fit y.

    Args:
        function: That was called, for messages.
        warm_start: As it was given.
        x: Base point ``[B, ...]``.
        y: Its value, where that is known yet.
    """
    kinds = (LocalBasis, torch.Tensor)
    check_kind(function, "warm_start", warm_start, kinds, "a LocalBasis, a tensor", optional=True)
    if warm_start is None or (isinstance(warm_start, LocalBasis) and y is not None and _fits(warm_start.u, y)):
        return warm_start
    basis = warm_start if isinstance(warm_start, LocalBasis) else None
    right = check_tensor(function, "warm_start", warm_start if basis is None else basis.v)
    if not _fits(right, x):
        expected = ", ".join(map(str, (["q"] if len(x) == 1 else [len(x), "q"]) + list(x.shape[1:])))
        raise ValueError(f"{function}: warm_start must have shape [{expected}], got {list(right.shape)}")
    return right if basis is None else basis


def warm_rows(products: Products, warm_start: LocalBasis | torch.Tensor) -> torch.Tensor:
    """Directions to start from as orthonormal rows ``[B, q, n]``.

    The left vectors of a basis, where they fit, are pulled back: ``J^T u`` is half a power step nearer to the wanted
    directions than v, and costs one pass.

    Args:
        products: The operator.
        warm_start: From :func:`check_warm_start`.
    """
    operator = products.operator
    if isinstance(warm_start, LocalBasis):
        if _fits(warm_start.u, operator.y):
            left = _rows(warm_start.u, operator.y).to(products.device, products.dtype)
            return orthonormalize(products.backward(left))
        warm_start = warm_start.v
    return orthonormalize(_rows(warm_start, operator.x).to(products.device, products.dtype))


def _fits(vectors: torch.Tensor, like: torch.Tensor) -> bool:
    """Whether vectors are ``[B, q, ...]``, or ``[q, ...]`` for one point, of the points ``[B, ...]``."""
    if len(like) == 1 and vectors.ndim == like.ndim:
        vectors = vectors[None]
    return vectors.ndim == like.ndim + 1 and len(vectors) == len(like) and vectors.shape[2:] == like.shape[1:]


def _rows(vectors: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Vectors that fit, as rows ``[B, q, n]``."""
    if vectors.ndim == like.ndim:
        vectors = vectors[None]
    return vectors.flatten(2) if vectors.ndim > 2 else vectors[:, :, None]
