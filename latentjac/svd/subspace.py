"""Iterations on one block: the paper's subspace iteration, and the randomized method with a fixed number of passes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch

from latentjac.svd.arguments import Settings
from latentjac.svd.iterate import Limits, harvest
from latentjac.svd.krylov import BlockKrylov, Ritz
from latentjac.svd.operator import Products
from latentjac.svd.orthonormal import orthonormalize
from latentjac.svd.outcome import Found, SolverState, Status

_PAPER_ITERATIONS = (12, 100)  # fewest and most under the rule of the paper's code
_TEST_ROWS = 6  # of the randomized method's error bound, which fails with probability 10^-6


def paper_iteration(
    products: Products, settings: Settings, limits: Limits, rows: torch.Tensor | None, generator: torch.Generator
) -> list[Found]:
    """Subspace iteration of Park et al. 2023: ``V <- right singular vectors of V J^T J``, on one block of k rows.

    What comes back are the Rayleigh-Ritz triplets of the last block whose products are known, or with
    ``vectors="paper"`` what the paper's code returns; both with true residuals.

    Args:
        products: The operator.
        settings: k, ``stop`` and ``vectors``.
        limits: When to stop; its tolerance is that of the entries of v with ``stop="paper"``.
        rows: First block ``[B, q, n]``, filled up with random rows to k; None for random rows alone.
        generator: Source of random rows.
    """
    rows = _block(products, settings.k, rows, generator)[:, : settings.k]
    for iteration in range(1, limits.max_passes + 1):
        krylov, ritz = _apply(products, rows, settings.k, generator)
        residuals = krylov.residuals(ritz)
        following = _following(krylov)
        change = (following - rows).abs().amax() if following.shape == rows.shape else ritz.s.new_tensor(math.inf)
        *worst, moved = products.fetch(torch.cat([residuals.amax(dim=1), change.double()[None]]))
        status = _status(worst, moved, iteration, settings, limits, products)
        if status is None and _interrupted(limits, products, ritz, residuals, settings.k):
            status = Status.INTERRUPTED
        if status is not None:
            break
        rows = following
    done = [Status.CONVERGED if value <= limits.tol else status or Status.OUT_OF_PASSES for value in worst]
    if settings.stop == "paper":
        done = [status or Status.OUT_OF_PASSES] * len(done)
    found = harvest(krylov, ritz, done)
    return found if settings.vectors == "ritz" else _as_published(krylov, rows, found)


def randomized(
    products: Products, settings: Settings, limits: Limits, rows: torch.Tensor | None, generator: torch.Generator
) -> tuple[list[Found], dict[str, Any]]:
    """Randomized SVD with a fixed number of passes (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1).

    Returns:
        The triplets, and facts with ``error_bound``: no singular value is further above its estimate than this, except
        with probability 1e-6 (their equation 4.3, on test rows that had no part in the rest).
    """
    width = min(settings.k + settings.oversampling, products.n)
    rows = _block(products, width, rows, generator)
    for _ in range(settings.power_steps):
        krylov, ritz = _apply(products, rows, settings.k, generator)
        rows = _following(krylov)
    krylov, ritz = _apply(products, rows, settings.k, generator)
    outside = products.forward(products.random(_TEST_ROWS, generator))
    outside = outside - (outside @ krylov.left.mT) @ krylov.left
    bound = 10 * math.sqrt(2 / math.pi) * outside.double().norm(dim=2).amax(dim=1)
    residuals = krylov.residuals(ritz)
    _interrupted(limits, products, ritz, residuals, settings.k)
    worst = products.fetch(torch.stack([residuals.amax(dim=1), bound], dim=1))
    done = [Status.CONVERGED if value <= limits.tol else Status.OUT_OF_PASSES for value, _ in worst]
    facts = {
        "oversampling": settings.oversampling,
        "power_steps": settings.power_steps,
        "error_bound": [value for _, value in worst],
    }
    return harvest(krylov, ritz, done), facts


def _block(products: Products, width: int, rows: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    random = products.random(width, generator)
    return orthonormalize(random if rows is None else torch.cat([rows, random], dim=1)[:, :width])


def _apply(products: Products, rows: torch.Tensor, k: int, generator: torch.Generator) -> tuple[BlockKrylov, Ritz]:
    """J and its transpose on one block, and the triplets in its span."""
    krylov = BlockKrylov(products, rows, k, 1, generator)
    krylov.expand(rows.shape[1])
    krylov.notice(rows.shape[1])
    return krylov, krylov.ritz(rows.shape[1])[0]


def _following(krylov: BlockKrylov) -> torch.Tensor:
    """Right singular vectors of ``V J^T J``, largest first."""
    # J V is the core in the left basis, whose products with the transpose are known.
    image = krylov.core.mT @ krylov.backward.double()
    return torch.linalg.svd(image, full_matrices=False)[2].to(krylov.right.dtype)


def _as_published(krylov: BlockKrylov, rows: torch.Tensor, found: list[Found]) -> list[Found]:
    """Triplets of the last block V, the rows: s and v from the singular values and vectors of V J^T J, u from J V.

    So u is one iteration older than v. Its rows have different lengths and are not orthogonal; here they are made unit,
    as the code does before it uses them. A pass more gives their residuals.
    """
    turned = rows.double() @ krylov.right.double().mT  # the bases hold the block's span, in rows of their own
    images, pulled = turned @ krylov.forward.double(), turned @ krylov.core.mT @ krylov.backward.double()
    lengths = images.norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    squares, v = torch.linalg.svd(pulled, full_matrices=False)[1:]
    s, v = squares.sqrt(), v * (pulled * v).sum(2, keepdim=True).sign()
    u, v = (rows.to(krylov.right.dtype) for rows in (images / lengths, v))
    scale = s.clamp_min(torch.finfo(torch.float64).tiny)
    right = (pulled / lengths - s[..., None] * v.double()).norm(dim=2) / scale
    left = (krylov.products.forward(v.contiguous()).double() - s[..., None] * u.double()).norm(dim=2) / scale
    return [
        replace(point, u=u[i], s=s[i], v=v[i], residuals=right[i], left_residuals=left[i])
        for i, point in enumerate(found)
    ]


def _status(
    worst: list[float], moved: float, iteration: int, settings: Settings, limits: Limits, products: Products
) -> Status | None:
    if settings.stop == "residual" and max(worst) <= limits.tol:
        return Status.CONVERGED
    if settings.stop == "paper" and iteration >= _PAPER_ITERATIONS[0] and moved <= limits.tol:
        return Status.STOPPED
    if products.passes >= limits.max_passes or (settings.stop == "paper" and iteration >= _PAPER_ITERATIONS[1]):
        return Status.OUT_OF_PASSES
    return Status.OUT_OF_TIME if time.perf_counter() >= limits.deadline else None


def _interrupted(limits: Limits, products: Products, ritz: Ritz, residuals: torch.Tensor, k: int) -> bool:
    if limits.callback is None:
        return False
    s = torch.zeros_like(residuals)
    s[:, : ritz.s.shape[1]] = ritz.s[:, :k]
    if products.points == 1:
        s, residuals = s[0], residuals[0]
    converged = int((residuals <= limits.tol).sum())
    state = SolverState(products.passes, products.jvps, products.vjps, s, residuals, converged)
    return limits.callback(state) is True
