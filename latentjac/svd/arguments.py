"""What the solvers accept, and the messages for what they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.arguments import check_choice, check_generator, check_int, check_left, check_number
from latentjac.svd.basis import LocalBasis
from latentjac.svd.block_size import MEASURED
from latentjac.svd.operator import Products
from latentjac.svd.orthonormal import orthonormalize

METHODS = ("krylov", "subspace", "randomized")
STOPS = ("residual", "paper")
VECTORS = ("ritz", "paper")
# Least values of the whole numbers; that k is large enough is said together with its upper limit.
_LEAST = {"k": None, "max_passes": 2, "block_size": 1, "confirm": 0, "oversampling": 0, "power_steps": 0}
# Options that other methods have no use for, and their defaults.
_OF_ONE_METHOD: dict[str, dict[str, Any]] = {
    "subspace": {"stop": "residual", "vectors": "ritz"},
    "randomized": {"oversampling": 10, "power_steps": 2},
}


@dataclass(frozen=True)
class Settings:
    """The numbers and names given to :func:`latentjac.svd`, as described there."""

    k: int
    tol: float
    method: str
    block_size: int | str | None
    max_passes: int
    max_seconds: float | None
    confirm: int
    oversampling: int
    power_steps: int
    stop: str
    vectors: str


def check(operator: Any, settings: Settings, generator: Any, callback: Any, refine_with: Any) -> None:
    """Raise unless everything given to :func:`latentjac.svd` is of the right kind and in range."""
    check_operator("svd", "operator", operator)
    for name, least in _LEAST.items():
        if name != "block_size" or not isinstance(settings.block_size, str):
            check_int("svd", name, getattr(settings, name), least, optional=name == "block_size")
    if isinstance(settings.block_size, str) and settings.block_size != MEASURED:
        raise ValueError(f"svd: block_size must be an int, {MEASURED!r} or None, got {settings.block_size!r}")
    points = operator.x.shape[0]
    limit = min(operator.x.numel(), operator.y.numel()) // points
    if not 1 <= settings.k <= limit:
        raise ValueError(f"svd: k must be in [1, min(n, m)] = [1, {limit}], got {settings.k}")
    check_number("svd", "tol", settings.tol, 0, 1)
    check_number("svd", "max_seconds", settings.max_seconds, 0, math.inf, optional=True)
    for name, names in (("method", METHODS), ("stop", STOPS), ("vectors", VECTORS)):
        check_choice("svd", name, getattr(settings, name), names)
    if settings.method != "krylov" and refine_with is None:
        check_left("svd", "block_size", settings.block_size, None, "unless method='krylov'")
    for method, options in _OF_ONE_METHOD.items():
        for name, usual in options.items() if settings.method != method else ():
            check_left("svd", name, getattr(settings, name), usual, f"unless method={method!r}")
    check_generator("svd", generator)
    if callback is not None and not callable(callback):
        raise TypeError(f"svd: callback must be callable or None, got {type(callback).__name__}")
    if refine_with is not None:
        check_operator("svd", "refine_with", refine_with)
        shapes = [[list(o.x.shape), list(o.y.shape)] for o in (operator, refine_with)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"svd: refine_with must have the shapes of operator, {shapes[0]}, got {shapes[1]}")


def check_operator(function: str, name: str, operator: Any) -> None:
    """Raise unless the operator has what :class:`latentjac.svd.LinearOperator` asks for."""
    missing = [a for a in ("x", "y", "jvp", "vjp") if not hasattr(operator, a)]
    if missing:
        kind = type(operator).__name__
        raise TypeError(f"{function}: {name} must have x, y, jvp and vjp, got {kind} without {missing}")


def warm_rows(products: Products, warm_start: LocalBasis | torch.Tensor) -> torch.Tensor:
    """Directions to start from as orthonormal rows ``[B, q, n]``.

    The left vectors of a basis, where they fit, are pulled back: ``J^T u`` is half a power step nearer to the wanted
    directions than v, and costs one pass.
    """
    operator, points = products.operator, products.points
    if isinstance(warm_start, LocalBasis):
        left = _rows(warm_start.u, operator.y, points)
        if left is not None:
            return orthonormalize(products.backward(left.to(products.device, products.dtype)))
        warm_start = warm_start.v
    if not isinstance(warm_start, torch.Tensor):
        raise TypeError(f"svd: warm_start must be a LocalBasis or a tensor, got {type(warm_start).__name__}")
    right = _rows(warm_start.detach(), operator.x, points)
    if right is None:
        expected = ", ".join(map(str, (["q"] if points == 1 else [points, "q"]) + list(operator.x.shape[1:])))
        raise ValueError(f"svd: warm_start must have shape [{expected}], got {list(warm_start.shape)}")
    if not torch.isfinite(right).all():
        raise ValueError("svd: warm_start must be finite, got NaN or Inf")
    return orthonormalize(right.to(products.device, products.dtype))


def _rows(vectors: torch.Tensor, like: torch.Tensor, points: int) -> torch.Tensor | None:
    """Vectors ``[q, ...]`` or ``[B, q, ...]`` as rows ``[B, q, n]``; None if the shape is another."""
    if points == 1 and vectors.ndim == like.ndim:
        vectors = vectors[None]
    if vectors.ndim != like.ndim + 1 or len(vectors) != points or vectors.shape[2:] != like.shape[1:]:
        return None
    return vectors.flatten(2) if vectors.ndim > 2 else vectors[:, :, None]
