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
    check_choice,
    check_dense,
    check_generator,
    check_int,
    check_kind,
    check_left,
    check_number,
    check_tensor,
    shown,
)
from latentjac.solvers.basis import LocalBasis
from latentjac.solvers.block_size import MEASURED
from latentjac.solvers.operator import Products
from latentjac.solvers.orthonormal import orthonormalize

METHODS = ("krylov", "subspace", "randomized")
STOPS = ("residual", "paper")
VECTORS = ("ritz", "paper")
MOST_POWER_STEPS = 1000
# Least values of the whole numbers.
_LEAST = {"k": 1, "max_passes": 2, "confirm": 0, "oversampling": 0}
# Options that other methods have no use for, and their defaults.
_OF_ONE_METHOD: dict[str, dict[str, Any]] = {
    "subspace": {"stop": "residual", "vectors": "ritz"},
    "randomized": {"oversampling": 10, "power_steps": 2},
}


@dataclass(frozen=True)
class Settings:
    """The numbers and names given to :func:`latentjac.svd`, as described there."""

    k: int = 8
    tol: float = 1e-3
    method: str = "krylov"
    block_size: int | str | None = None
    max_passes: int = 1000
    max_seconds: float | None = None
    confirm: int = 1
    oversampling: int = 10
    power_steps: int = 2
    stop: str = "residual"
    vectors: str = "ritz"


def check(operator: Any, settings: Settings, refine_with: Any) -> Settings:
    """The settings in their plain form, if they and the operators given to :func:`latentjac.svd` fit together."""
    check_operator("svd", "operator", operator)
    settings = check_settings("svd", settings, refine_with is not None)
    check_rank_limit("svd", operator, settings.k)
    if refine_with is not None:
        check_operator("svd", "refine_with", refine_with)
        shapes = [[list(o.x.shape), list(o.y.shape)] for o in (operator, refine_with)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"svd: refine_with must have the shapes of operator, {shapes[0]}, got {shapes[1]}")
    return settings


def check_settings(function: str, settings: Settings, refined: bool = False) -> Settings:
    """The settings in their plain form, if they are of the right kind, in range and of use to the method.

    Args:
        function: That was called, for messages.
        settings: As they were given.
        refined: Whether another operator refines what the first gives.
    """
    plain = {name: check_int(function, name, getattr(settings, name), least) for name, least in _LEAST.items()}
    plain["block_size"] = settings.block_size
    if isinstance(settings.block_size, str) and settings.block_size != MEASURED:
        raise ValueError(
            f"{function}: block_size must be an int, {MEASURED!r} or None, got {shown(settings.block_size)}"
        )
    if not isinstance(settings.block_size, str):
        plain["block_size"] = check_int(function, "block_size", settings.block_size, 1, optional=True)
    plain["power_steps"] = check_int(function, "power_steps", settings.power_steps, 0, MOST_POWER_STEPS)
    plain["tol"] = check_number(function, "tol", settings.tol, 0, 1)
    plain["max_seconds"] = check_number(function, "max_seconds", settings.max_seconds, 0, math.inf, optional=True)
    for name, names in (("method", METHODS), ("stop", STOPS), ("vectors", VECTORS)):
        plain[name] = check_choice(function, name, getattr(settings, name), names)
    settings = Settings(**plain)
    if settings.method != "krylov" and not refined:
        check_left(function, "block_size", settings.block_size, None, "unless method='krylov'")
    for method, options in _OF_ONE_METHOD.items():
        for name, usual in options.items() if settings.method != method else ():
            check_left(function, name, getattr(settings, name), usual, f"unless method={method!r}")
    return settings


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


def warm_rows(products: Products, warm_start: LocalBasis | torch.Tensor) -> torch.Tensor:
    """Directions to start from as orthonormal rows ``[B, q, n]``.

    The left vectors of a basis, where they fit, are pulled back: ``J^T u`` is half a power step nearer to the wanted
    directions than v, and costs one pass.
    """
    operator, points = products.operator, products.points
    check_kind("svd", "warm_start", warm_start, (LocalBasis, torch.Tensor), "a LocalBasis or a tensor")
    if isinstance(warm_start, LocalBasis):
        left = _rows(warm_start.u, operator.y, points)
        if left is not None:
            return orthonormalize(products.backward(left.to(products.device, products.dtype)))
        warm_start = warm_start.v
    warm_start = check_tensor("svd", "warm_start", warm_start)
    right = _rows(warm_start, operator.x, points)
    if right is None:
        expected = ", ".join(map(str, (["q"] if points == 1 else [points, "q"]) + list(operator.x.shape[1:])))
        raise ValueError(f"svd: warm_start must have shape [{expected}], got {list(warm_start.shape)}")
    return orthonormalize(right.to(products.device, products.dtype))


def _rows(vectors: torch.Tensor, like: torch.Tensor, points: int) -> torch.Tensor | None:
    """Vectors ``[q, ...]`` or ``[B, q, ...]`` as rows ``[B, q, n]``; None if the shape is another."""
    if points == 1 and vectors.ndim == like.ndim:
        vectors = vectors[None]
    if vectors.ndim != like.ndim + 1 or len(vectors) != points or vectors.shape[2:] != like.shape[1:]:
        return None
    return vectors.flatten(2) if vectors.ndim > 2 else vectors[:, :, None]
