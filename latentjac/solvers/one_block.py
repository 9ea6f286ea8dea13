"""Iterations on one block: subspace iteration, and the randomized method with a fixed number of passes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from latentjac.linear_algebra import orthogonal_part
from latentjac.solvers.iterate import Limits, allowed_mismatch, harvest
from latentjac.solvers.krylov import BlockKrylov, Ritz
from latentjac.solvers.operator import Products
from latentjac.solvers.options import Randomized, Subspace
from latentjac.solvers.orthonormal import complete, orthonormalize
from latentjac.solvers.outcome import Found, SolverState, Status

_PARK2023_ITERATIONS = (12, 100)  # fewest and most under the rule of their code
_TEST_ROWS = 6  # of the randomized method's error bound, which fails with probability 10^-6


def subspace_iteration(
    products: Products,
    k: int,
    solver: Subspace,
    limits: Limits,
    rows: torch.Tensor | None,
    generator: torch.Generator,
) -> list[Found]:
    """Subspace iteration of Park et al. 2023: ``V <- right singular vectors of V J^T J``, on one block of k rows.

    What comes back are the Rayleigh-Ritz triplets of the last block whose products are known, or with
    ``vectors="park2023"`` what their code returns; both with true residuals.

    Args:
        products: The operator.
        k: Triplets wanted.
        solver: Its options.
        limits: When to stop; its tolerance is that of the entries of v with ``stop="park2023"``.
        rows: First block ``[B, q, n]``, filled up with random rows to k; None for random rows alone.
        generator: Source of random rows.
    """
    random = rows is None
    rows = _block(products, k, rows, generator)
    last: _Applied | None = None
    for iteration in range(1, limits.max_passes + 1):
        try:
            last = _apply(products, rows, k, generator, random, last)
            following = last.following(generator)
            status = _status(last, following, iteration, solver, limits, products)
        except KeyboardInterrupt:
            if last is None:
                raise
            products.interrupted, status = True, Status.INTERRUPTED
        if status is not None:
            break
        rows, random = following, True
    assert last is not None
    worst = last.residuals.amax(dim=1).tolist()
    done = [Status.CONVERGED if value <= limits.tol else status or Status.OUT_OF_PASSES for value in worst]
    if solver.stop == "park2023":
        done = [status or Status.OUT_OF_PASSES] * len(done)
    found = harvest(last.krylov, last.ritz, done, allowed_mismatch(products, limits.tol))
    return found if solver.vectors == "ritz" else _of_park2023(last.krylov, last.rows, found)


def randomized(
    products: Products,
    k: int,
    solver: Randomized,
    limits: Limits,
    rows: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[Found], dict[str, Any]]:
    """Randomized SVD with a fixed number of passes (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1).

    Returns:
        The triplets, and facts with ``error_bound``: no singular value is further above its estimate than this, except
        with probability 1e-6 (their equation 4.3, on test rows that had no part in the rest).
    """
    random = rows is None
    rows = _block(products, min(k + solver.oversampling, products.n), rows, generator)
    last: _Applied | None = None
    bound: torch.Tensor | None = None
    try:
        for _ in range(solver.power_steps):
            last = _apply(products, rows, k, generator, random, last)
            rows, random = last.following(generator), True
        last = _apply(products, rows, k, generator, random, last)
        left_over = orthogonal_part(products.forward(products.random(_TEST_ROWS, generator)), last.krylov.left)
        bound = 10 * math.sqrt(2 / math.pi) * left_over.double().norm(dim=2).amax(dim=1) * products.units
        _stopped(limits, products, last)
    except KeyboardInterrupt:
        if last is None:
            raise
        products.interrupted = True
    facts: dict[str, Any] = {"oversampling": solver.oversampling, "power_steps": solver.power_steps}
    worst = products.fetch(last.residuals.amax(dim=1))
    done = [Status.CONVERGED if value <= limits.tol else Status.OUT_OF_PASSES for value in worst]
    if bound is not None:
        facts["error_bound"] = bound.tolist()
    if products.interrupted:
        done = [Status.INTERRUPTED] * len(done)
    return harvest(last.krylov, last.ritz, done, allowed_mismatch(products, limits.tol)), facts


@dataclass(frozen=True)
class _Applied:
    """One block, taken through J and its transpose.

    Attributes:
        rows: The block, orthonormal, ``[B, w, n]``.
        krylov: Bases of what it spans.
        ritz: The triplets in them.
        residuals: Of the k wanted ones, ``[B, k]``.
    """

    rows: torch.Tensor
    krylov: BlockKrylov
    ritz: Ritz
    residuals: torch.Tensor

    def following(self, generator: torch.Generator) -> torch.Tensor:
        """Right singular vectors of ``V J^T J``, largest first; random where there are none, until none are left."""
        krylov = self.krylov
        # J V is the core in the left basis, whose products with the transpose are known.
        image = krylov.core.mT @ krylov.backward.double()
        rows = torch.linalg.svd(image, full_matrices=False)[2].to(krylov.right.dtype)
        count = rows.shape[1]
        real = torch.arange(count, device=rows.device) < krylov.known()[:, None]
        if bool((real | krylov.exhausted[:, None]).all()):
            return rows
        return complete(rows * (real | krylov.exhausted[:, None])[:, :, None], count, generator)


def _block(products: Products, width: int, rows: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
    random = products.random(width, generator)
    whole = random if rows is None else torch.cat([rows, random], dim=1)[:, :width]
    return complete(orthonormalize(whole), width, generator)


def _apply(
    products: Products, rows: torch.Tensor, k: int, generator: torch.Generator, random: bool, last: _Applied | None
) -> _Applied:
    """J and its transpose on one block, and the triplets in its span.

    Args:
        products: The operator.
        rows: The block.
        k: Triplets wanted.
        generator: Source of what completes them.
        random: Whether the block holds random directions, beside those of independent products if there are any: if not
            all of its products are independent then, the rank of J is reached.
        last: The block before, from which that may be known.
    """
    live = rows.shape[1]
    krylov = BlockKrylov(products, rows, k, 1, generator)
    krylov.expand(live)
    krylov.notice(live)
    if random:
        krylov.exhausted.logical_or_(krylov.known() < live)
    if last is not None:
        krylov.exhausted.logical_or_(last.krylov.exhausted)
    ritz = krylov.ritz(live)[0]
    return _Applied(rows, krylov, ritz, krylov.residuals(ritz))


def _of_park2023(krylov: BlockKrylov, rows: torch.Tensor, found: list[Found]) -> list[Found]:
    """Triplets of the last block V, the rows: s and v from the singular values and vectors of V J^T J, u from J V.

    So u is one iteration older than v. Its rows have different lengths and are not orthogonal; here they are made unit,
    as the code does before it uses them. A pass more gives their residuals.
    """
    turned = rows.double() @ krylov.right.double().mT  # the bases hold the block's span, in rows of their own
    images, pulled = turned @ krylov.forward.double(), turned @ krylov.core.mT @ krylov.backward.double()
    lengths = images.norm(dim=2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    squares, v = torch.linalg.svd(pulled, full_matrices=False)[1:]
    s = (squares * (squares > krylov.floor(squares))).sqrt()
    v = torch.where((pulled * v).sum(2, keepdim=True) < 0, -v, v)
    u = torch.where(images.any(2, keepdim=True), images / lengths, torch.stack([point.u for point in found]).double())
    u, v = (rows.to(krylov.right.dtype) for rows in (u, v))
    scale = torch.where(s > 0, s, s[:, :1]).clamp_min(torch.finfo(torch.float64).tiny)
    right = (pulled / lengths - s[..., None] * v.double()).norm(dim=2) / scale
    left = (krylov.products.forward(v.contiguous()).double() - s[..., None] * u.double()).norm(dim=2) / scale
    return [
        replace(point, u=u[i], s=s[i], v=v[i], residuals=right[i], left_residuals=left[i])
        for i, point in enumerate(found)
    ]


def _status(
    last: _Applied, following: torch.Tensor, iteration: int, solver: Subspace, limits: Limits, products: Products
) -> Status | None:
    """Why the iteration ends, if it does."""
    moved = (following - last.rows).abs().amax().double()
    mismatch = last.krylov.disagreement(last.rows.shape[1])
    facts = products.fetch(torch.cat([moved[None], last.residuals.amax(dim=1), mismatch]))
    moved, worst, mismatch = facts[0], facts[1 : 1 + products.points], facts[1 + products.points :]
    if solver.stop == "residual" and max(worst) <= limits.tol:
        return Status.CONVERGED
    if solver.stop == "park2023" and iteration >= _PARK2023_ITERATIONS[0] and moved <= limits.tol:
        return Status.STOPPED
    if products.passes >= limits.max_passes or (solver.stop == "park2023" and iteration >= _PARK2023_ITERATIONS[1]):
        return Status.OUT_OF_PASSES
    if iteration > 1 and min(mismatch) > allowed_mismatch(products, limits.tol):
        return Status.NOT_ADJOINT
    if time.perf_counter() >= limits.deadline:
        return Status.OUT_OF_TIME
    return Status.INTERRUPTED if _stopped(limits, products, last) else None


def _stopped(limits: Limits, products: Products, last: _Applied) -> bool:
    """Tell the callback, and whether it wants to stop."""
    if limits.callback is None:
        return False
    residuals = last.residuals
    s = torch.zeros_like(residuals)
    k = min(s.shape[1], last.ritz.s.shape[1])
    s[:, :k] = last.ritz.s[:, :k] * products.units[:, None]
    if products.points == 1:
        s, residuals = s[0], residuals[0]
    converged = int((residuals <= limits.tol).sum())
    state = SolverState(products.passes, products.jvps, products.vjps, s, residuals, converged)
    return limits.callback(state) is True
