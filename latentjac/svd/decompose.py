"""Top singular triplets of a linear operator that is known by its products."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from latentjac.public import public
from latentjac.svd import block_size as blocks
from latentjac.svd.arguments import Settings, check, check_run, warm_rows
from latentjac.svd.basis import ConvergenceError, LocalBasis
from latentjac.svd.certificate import Certificate
from latentjac.svd.iterate import Iteration, Limits
from latentjac.svd.krylov import BlockKrylov
from latentjac.svd.operator import LinearOperator, Products
from latentjac.svd.outcome import Found, SolverState, Status
from latentjac.svd.progress import shown
from latentjac.svd.subspace import paper_iteration, randomized
from latentjac.svd.workspace import workspace_for

# Worst first: the status of a basis of several points is the worst of theirs.
_SEVERITY = [
    Status.INTERRUPTED,
    Status.OUT_OF_TIME,
    Status.OUT_OF_PASSES,
    Status.STAGNATED,
    Status.STOPPED,
    Status.CONVERGED,
]

# Random rows beside the known ones of a warm start, to find what those do not contain.
_GUARDS = 2

# Residuals reach a few rounding errors of the products, and take ever more of them on the last way there.
_WITHIN_ROUNDING = 4


@public
def svd(
    operator: LinearOperator,
    k: int = 8,
    tol: float = 1e-3,
    *,
    method: str = "krylov",
    block_size: int | None = None,
    max_passes: int = 1000,
    max_seconds: float | None = None,
    generator: torch.Generator | None = None,
    warm_start: LocalBasis | torch.Tensor | None = None,
    confirm: int = 1,
    refine_with: LinearOperator | None = None,
    oversampling: int = 10,
    power_steps: int = 2,
    stop: str = "residual",
    vectors: str = "ritz",
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
    strict: bool = False,
) -> LocalBasis:
    """Top-k singular triplets of the Jacobian at one point or at several.

    Args:
        operator: Linearization, or anything with ``x``, ``y``, ``jvp`` and ``vjp``. B points in dimension 0 of x are
            decomposed side by side; see :class:`latentjac.svd.Restrictable` for how finished ones can leave.
        k: Number of triplets.
        tol: Largest residual ``|J^T u - s v| / s`` that counts as converged.
        method: ``"krylov"`` (block Golub-Kahan, thick restart); ``"subspace"`` (the iteration of Park et al. 2023,
            one block of k, no oversampling); ``"randomized"`` (Halko, Martinsson & Tropp 2011: a fixed number of
            passes over k + oversampling probes).
        block_size: Probes a pass of ``"krylov"``. By default chosen from the costs of a few passes, measured once an
            operator on rows that are used; the choice is in the metadata, and given back here it repeats the run.
        max_passes: Most passes; one pass is one block of JVPs or of VJPs.
        max_seconds: No expansion begins after this time.
        generator: Source of the start block; a CPU generator seeded with 0 by default, so that the result repeats.
        warm_start: Basis of a nearby point or map (its u is pulled back first, which halves the error), or
            directions ``[q, *x.shape[1:]]`` (``[B, q, ...]`` for several points) near the wanted ones.
        confirm: Expansions that have to confirm what a warm start gives, since it can hide larger values behind its
            own for a while. 0 takes the basis on trust as soon as its residuals allow.
        refine_with: The same map in higher precision. What ``operator`` gives, to ``tol`` or as far as its rounding
            (``operator.eps``) allows, is then a warm start for it, and triplets and residuals are those of this
            operator. The adjoint mismatch of the cheap one is in the metadata.
        oversampling: Further probes of ``"randomized"``.
        power_steps: At most 1000 applications of ``J^T J`` of ``"randomized"`` before the final one.
        stop: ``"residual"``, or ``"paper"`` for the rule of the paper's code with ``"subspace"``: no entry of v has
            changed by more than tol in the last of at least 12 iterations, at most 100.
        vectors: ``"ritz"``, the best in the span of the last block, or ``"paper"`` for what the paper's code returns
            with ``"subspace"``: v and s of the next block, and u = J v of the last one, here of unit length; the rows
            of u are not orthogonal.
        callback: Called with a :class:`SolverState` after each expansion; returning True stops.
        progress: Show a progress bar.
        strict: Raise instead of warning when not converged.

    Returns:
        The triplets with their residuals, certificate and counts.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the operator gives NaN or Inf.
        ConvergenceError: If ``strict`` and the tolerance was not reached; carries the partial result.
    """
    settings = Settings(
        k, tol, method, block_size, max_passes, max_seconds, confirm, oversampling, power_steps, stop, vectors
    )
    check_run("svd", generator, callback, progress, strict)
    settings = check(operator, settings, refine_with)
    k, tol, method, max_seconds = settings.k, settings.tol, settings.method, settings.max_seconds
    max_passes, confirm = settings.max_passes, settings.confirm
    started = time.perf_counter()
    generator = generator or torch.Generator().manual_seed(0)
    with shown(callback, progress, k * operator.x.shape[0]) as watch:
        deadline = float("inf") if max_seconds is None else started + max_seconds
        limits = Limits(tol, max_passes, deadline, watch)
        first = Products(operator)
        cheaply = limits if refine_with is None else _cheaply(limits, first.rounding)
        found, facts = _decompose(first, settings, cheaply, warm_start, generator)
        products = [first]
        if refine_with is not None and not any(f.status is Status.INTERRUPTED for f in found):
            mismatch = max(point.mismatch for point in found)
            if cheaply.tol > tol:  # rounding may have put close values in another order
                limits = replace(limits, patience=confirm)
            found, second = _refine(refine_with, found, settings, limits, generator)
            products.append(second)
            facts |= {"refine_jvps": second.jvps, "refine_vjps": second.vjps, "cheap_adjoint_mismatch": mismatch}
    metadata = {"tol": tol, "method": method, **facts, "passes": sum(p.passes for p in products)}
    basis = _assemble(operator, found, products, time.perf_counter() - started, metadata)
    _complain(basis, tol, strict)
    return basis


def _decompose(
    products: Products,
    settings: Settings,
    limits: Limits,
    warm_start: LocalBasis | torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[Found], dict[str, Any]]:
    """The triplets by the method asked for, and what to note about the run."""
    known = None if warm_start is None else warm_rows(products, warm_start)
    if settings.method == "subspace":
        found = paper_iteration(products, settings, limits, known, generator)
        return found, {"block_size": settings.k, "stop": settings.stop}
    if settings.method == "randomized":
        return randomized(products, settings, limits, known, generator)
    return _krylov(products, settings, limits, known, generator)


def _krylov(
    products: Products,
    settings: Settings,
    limits: Limits,
    known: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[Found], dict[str, Any]]:
    k, block, images, curve = settings.k, settings.block_size, None, None
    # Always as many, so that what is drawn later does not depend on whether costs were measured.
    random = products.random(min(max(blocks.LARGEST, block or 0), products.n), generator)
    if known is not None:
        start = torch.cat([known, random[:, : _GUARDS if settings.confirm else 1]], dim=1)
        curve = blocks.known_curve(products)
        block = min(block or (curve.best_block(k, blocks.own_cost(products, k)) if curve else 4), products.n)
        limits = replace(limits, patience=settings.confirm)
    elif min(products.n, products.m) >= 2 * random.shape[1]:
        curve, block, images = blocks.first_images(products, random, block, k)
        start = random[:, :block]
    else:
        block = min(block or min(max(4, k), 8), products.n)
        start = random[:, :block]
    facts: dict[str, Any] = {"block_size": block}
    if curve is not None:
        facts["cost_curve"] = {"c0": curve.c0, "c1": curve.c1}
    return _iterate(products, start, k, block, limits, generator, images), facts


def _iterate(
    products: Products,
    start: torch.Tensor,
    k: int,
    block: int,
    limits: Limits,
    generator: torch.Generator,
    images: torch.Tensor | None = None,
) -> list[Found]:
    """Block Krylov from a start block, of which J may be known already."""
    with workspace_for(products.operator, BlockKrylov.shape(products, start.shape[1], k, block)) as space:
        krylov = BlockKrylov(products, start, k, block, generator, images, space)
        return Iteration(krylov, products, limits).run(start.shape[1])


def _cheaply(limits: Limits, rounding: float) -> Limits:
    """How far an operator is taken whose result another one refines: not into its own rounding errors."""
    return replace(limits, tol=max(limits.tol, _WITHIN_ROUNDING * rounding), stalls=2)


def _refine(
    operator: LinearOperator, found: list[Found], settings: Settings, limits: Limits, generator: torch.Generator
) -> tuple[list[Found], Products]:
    """Go on with a more precise operator where a cheap one ended."""
    products = Products(operator)
    start = torch.stack([point.v for point in found]).to(products.device, products.dtype)
    block = min(settings.block_size or 4, products.n)
    return _iterate(products, start, settings.k, block, limits, generator), products


def _assemble(
    operator: LinearOperator, found: list[Found], products: list[Products], seconds: float, metadata: dict[str, Any]
) -> LocalBasis:
    points, k = len(found), len(found[0].s)
    dtype = products[-1].dtype
    u, s, v, residuals = (torch.stack([getattr(point, n) for point in found]) for n in ("u", "s", "v", "residuals"))
    signs = v.gather(2, v.abs().argmax(dim=2, keepdim=True)).sign()
    shapes = {"v": operator.x.shape[1:], "u": operator.y.shape[1:]}
    tensors = {
        "s": s.to(dtype),
        "v": (v * signs).reshape(points, k, *shapes["v"]),
        "u": (u * signs).reshape(points, k, *shapes["u"]),
        "residuals": residuals.to(dtype),
    }
    statuses = tuple(point.status for point in found)
    return LocalBasis(
        **{name: tensor[0] if points == 1 else tensor for name, tensor in tensors.items()},
        status=min(statuses, key=_SEVERITY.index),
        jvps=sum(p.jvps for p in products),
        vjps=sum(p.vjps for p in products),
        seconds=seconds,
        metadata={**metadata, "versions": {"torch": torch.__version__, "latentjac": _version()}},
        certificate=Certificate.of(found),
        point_status=statuses,
    )


def _version() -> str:
    return str(getattr(sys.modules["latentjac"], "__version__", "unknown"))


def _complain(basis: LocalBasis, tol: float, strict: bool) -> None:
    if basis.status in (Status.CONVERGED, Status.STOPPED):
        return
    where = "" if basis.points == 1 else f" at {sum(s is not Status.CONVERGED for s in basis.point_status)} points"
    reached = f"{basis.status.value}{where} after {basis.metadata['passes']} passes with largest residual "
    message = f"svd: {reached}{basis.residuals.max().item():.1e}"
    if basis.metadata.get("stop") == "paper":
        message += "; the rule of the paper did not stop it"
    else:
        message += f" > tol = {tol:g}; raise max_passes or tol"
    if strict:
        raise ConvergenceError(message, basis)
    warnings.warn(message, stacklevel=3)
