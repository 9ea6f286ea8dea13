"""Top singular triplets of a linear operator that is known by its products."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, overload

import torch

from latentjac import interrupts
from latentjac.public import public, warn
from latentjac.solvers import block_size as blocks
from latentjac.solvers.arguments import MAX_PASSES, TOL, Settings, check, check_run, warm_rows
from latentjac.solvers.arrays import ArrayBasis, ArrayOperator, adapted, plain_start
from latentjac.solvers.basis import ConvergenceError, LocalBasis
from latentjac.solvers.building import called, calling, under_construction
from latentjac.solvers.certificate import Certificate
from latentjac.solvers.iterate import Iteration, Limits
from latentjac.solvers.krylov import BlockKrylov
from latentjac.solvers.one_block import randomized, subspace_iteration
from latentjac.solvers.operator import LinearOperator, Products
from latentjac.solvers.options import MEASURED, Krylov, Randomized, Solver, Subspace
from latentjac.solvers.outcome import Found, SolverState, Status, shown, worst
from latentjac.solvers.workspace import workspace_for

# What the caller of svd can do; other functions have other arguments.
_ADVICE = {
    Status.OUT_OF_PASSES: "; raise max_passes or tol",
    Status.OUT_OF_TIME: "; raise max_seconds or tol",
    Status.STAGNATED: "; raise tol, or give a more precise operator",
}

# Random rows beside the known ones of a warm start, to find what those do not contain.
_GUARDS = 2

# An adjoint mismatch in float64 below this may be that of a part in float32.
_SINGLE = 1e-5

# Probes a pass of a refinement, by default.
_REFINING_BLOCK = 4

# Residuals reach a few rounding errors of the products, and take ever more of them on the last way there.
_WITHIN_ROUNDING = 4


@overload
def svd(
    operator: LinearOperator,
    k: int = ...,
    tol: float = ...,
    *,
    solver: Solver = ...,
    max_passes: int = ...,
    max_seconds: float | None = ...,
    generator: torch.Generator | None = ...,
    warm_start: LocalBasis | torch.Tensor | None = ...,
    refine_with: LinearOperator | None = ...,
    callback: Callable[[SolverState], Any] | None = ...,
    progress: bool = ...,
    strict: bool = ...,
) -> LocalBasis: ...


@overload
def svd(
    operator: ArrayOperator,
    k: int = ...,
    tol: float = ...,
    *,
    solver: Solver = ...,
    max_passes: int = ...,
    max_seconds: float | None = ...,
    generator: torch.Generator | None = ...,
    warm_start: Any = ...,
    refine_with: ArrayOperator | None = ...,
    callback: Callable[[SolverState], Any] | None = ...,
    progress: bool = ...,
    strict: bool = ...,
) -> ArrayBasis: ...


@public
def svd(
    operator: LinearOperator | ArrayOperator,
    k: int = 8,
    tol: float = TOL,
    *,
    solver: Solver = Krylov(),
    max_passes: int = MAX_PASSES,
    max_seconds: float | None = None,
    generator: torch.Generator | None = None,
    warm_start: Any = None,
    refine_with: LinearOperator | ArrayOperator | None = None,
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
    strict: bool = False,
) -> LocalBasis | ArrayBasis:
    """Top-k singular triplets of the Jacobian at one point or at several.

    Args:
        operator: Linearization, or anything with ``x``, ``y``, ``jvp`` and ``vjp``. B points in dimension 0 of x are
            decomposed side by side; see :class:`latentjac.solvers.Restrictable` for how finished ones can leave. Its
            arrays may be NumPy's, CuPy's, JAX's or others that speak DLPack (:class:`latentjac.solvers.ArrayOperator`).
        k: Number of triplets.
        tol: Largest residual ``|J^T u - s v| / s`` that counts as converged.
        solver: :class:`latentjac.solvers.Krylov`, :class:`latentjac.solvers.Subspace` (Park et al. 2023) or
            :class:`latentjac.solvers.Randomized` (Halko, Martinsson & Tropp 2011), with its own options.
        max_passes: Most passes; one pass is one block of JVPs or of VJPs.
        max_seconds: No expansion begins after this time.
        generator: Source of the start block; a CPU generator seeded with 0 by default. Equal arguments and equal states
            of the generator give equal bits, on one machine with as many threads, unless ``max_seconds`` ends the run
            or the block size is measured.
        warm_start: Basis of a nearby point or map (its u is pulled back first, which halves the error), or
            directions ``[q, *x.shape[1:]]`` (``[B, q, ...]`` for several points) near the wanted ones, in arrays of
            any kind.
        refine_with: The same map in higher precision. What ``operator`` gives, to ``tol`` or as far as its rounding
            (``operator.eps``) allows, is then a warm start of ``Krylov`` for it, and triplets and residuals are those
            of this operator. The adjoint mismatch of the cheap one is in the metadata.
        callback: Called with a :class:`SolverState` after each expansion; returning True stops.
        progress: Show a progress bar.
        strict: Raise instead of warning when not converged.

    Returns:
        The triplets with their residuals, certificate and counts; of an operator of other arrays than torch's in its
        kind, as a :class:`latentjac.solvers.ArrayBasis`. Rows of u and of v are orthonormal whatever the rank: where it
        is less than k, null vectors fill them up, marked by an s of exactly 0. Ctrl-C gives the triplets so far, with
        the status interrupted; unless that status is read, the next call raises ``KeyboardInterrupt``.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the operator gives NaN or Inf.
        ConvergenceError: If ``strict`` and the tolerance was not reached; carries the partial result.
        KeyboardInterrupt: If interrupted before there are triplets, or in a function that builds something on them.

    Example:
        >>> matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
        >>> lin = latentjac.linearize(lambda x: x @ matrix, torch.zeros(1, 3))
        >>> basis = latentjac.svd(lin, k=2)
        >>> [round(float(s), 4) for s in basis.s]
        [3.0, 2.0]
    """
    settings = Settings(k, tol, solver, max_passes, max_seconds)
    with calling("svd"):
        check_run("svd", generator, callback, progress, strict)
        taken, refining = adapted("svd", "operator", operator), adapted("svd", "refine_with", refine_with)
        settings, warm_start = check(taken, settings, plain_start("svd", warm_start), refining)
        basis, interrupted = _run(taken, settings, generator, warm_start, refining, callback, progress)
        _hand_over(basis, interrupted, settings.tol, strict)
    return basis if taken is operator else taken.answer(basis)


def _run(
    operator: LinearOperator,
    settings: Settings,
    generator: torch.Generator | None,
    warm_start: LocalBasis | torch.Tensor | None,
    refine_with: LinearOperator | None,
    callback: Callable[[SolverState], Any] | None,
    progress: bool,
) -> tuple[LocalBasis, bool]:
    """The basis, and whether Ctrl-C ended it."""
    k, tol, max_seconds = settings.k, settings.tol, settings.max_seconds
    started = time.perf_counter()
    generator = generator or torch.Generator().manual_seed(0)
    with shown(callback, progress, k * operator.x.shape[0]) as watch:
        deadline = float("inf") if max_seconds is None else started + max_seconds
        limits = Limits(tol, settings.max_passes, deadline, watch)
        krylov = settings.solver if isinstance(settings.solver, Krylov) else Krylov()
        first = Products(operator, krylov.block_size == MEASURED)
        cheaply = limits if refine_with is None else _cheaply(limits, first.rounding)
        found, facts = _decompose(first, settings, cheaply, warm_start, generator)
        products = [first]
        if refine_with is not None and not any(f.status is Status.INTERRUPTED for f in found):
            mismatch = max(point.mismatch for point in found)
            if cheaply.tol > tol:  # rounding may have put close values in another order
                limits = replace(limits, patience=krylov.confirm)
            found, second = _refine(refine_with, found, krylov, limits, generator)
            products.append(second)
            facts |= {"refine_jvps": second.jvps, "refine_vjps": second.vjps, "cheap_adjoint_mismatch": mismatch}
    name = type(settings.solver).__name__
    metadata = {"tol": tol, "solver": name, **facts, "passes": sum(p.passes for p in products)}
    basis = _assemble(operator, found, products, time.perf_counter() - started, metadata)
    return basis, any(p.interrupted for p in products)


def _decompose(
    products: Products,
    settings: Settings,
    limits: Limits,
    warm_start: LocalBasis | torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[Found], dict[str, Any]]:
    """The triplets by the solver asked for, and what to note about the run."""
    known = None if warm_start is None else warm_rows(products, warm_start)
    k, solver = settings.k, settings.solver
    if isinstance(solver, Subspace):
        found = subspace_iteration(products, k, solver, limits, known, generator)
        return found, {"block_size": k, "stop": solver.stop, "vectors": solver.vectors}
    if isinstance(solver, Randomized):
        return randomized(products, k, solver, limits, known, generator)
    return _krylov(products, k, solver, limits, known, generator)


def _krylov(
    products: Products,
    k: int,
    solver: Krylov,
    limits: Limits,
    known: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[Found], dict[str, Any]]:
    given = solver.block_size
    # Always as many, so that what is drawn later does not depend on who chose the block size.
    random = products.random(min(max(blocks.LARGEST, _number(given) or 0), products.n), generator)
    block, facts = _block_size(products, random, k, given)
    if known is None:
        start = random[:, :block]
    else:
        start = torch.cat([known, random[:, : _GUARDS if solver.confirm else 1]], dim=1)
        limits = replace(limits, patience=solver.confirm)
    return _iterate(products, start, k, block, limits, generator), facts


def _block_size(
    products: Products, random: torch.Tensor, k: int, given: int | str | None
) -> tuple[int, dict[str, Any]]:
    """The block size, as given or chosen, and what to note about it."""
    if given == MEASURED:
        block, curve = blocks.measured(products, random, k)
        return block, {"block_size": block, "cost_curve": {"c0": curve.c0, "c1": curve.c1}}
    block = min(_number(given) or blocks.ruled(products, k), products.n)
    return block, {"block_size": block}


def _number(block_size: int | str | None) -> int | None:
    """A block size that is given, as a number."""
    return block_size if isinstance(block_size, int) else None


def _iterate(
    products: Products,
    start: torch.Tensor,
    k: int,
    block: int,
    limits: Limits,
    generator: torch.Generator,
) -> list[Found]:
    """Block Krylov from a start block."""
    with workspace_for(products.operator, BlockKrylov.shape(products, start.shape[1], k, block)) as space:
        krylov = BlockKrylov(products, start, k, block, generator, space)
        return Iteration(krylov, products, limits).run(start.shape[1])


def _cheaply(limits: Limits, rounding: float) -> Limits:
    """How far an operator is taken whose result another one refines: not into its own rounding errors."""
    return replace(limits, tol=max(limits.tol, _WITHIN_ROUNDING * rounding), stalls=2)


def _refine(
    operator: LinearOperator, found: list[Found], solver: Krylov, limits: Limits, generator: torch.Generator
) -> tuple[list[Found], Products]:
    """Go on with a more precise operator where a cheap one ended."""
    products = Products(operator, solver.block_size == MEASURED, "svd: refine_with")
    start = torch.stack([point.v for point in found]).to(products.device, products.dtype)
    block = min(_number(solver.block_size) or _REFINING_BLOCK, products.n)
    return _iterate(products, start, len(found[0].s), block, limits, generator), products


def _assemble(
    operator: LinearOperator, found: list[Found], products: list[Products], seconds: float, metadata: dict[str, Any]
) -> LocalBasis:
    points, k = len(found), len(found[0].s)
    dtype = products[-1].dtype
    u, s, v, residuals = (torch.stack([getattr(point, n) for point in found]) for n in ("u", "s", "v", "residuals"))
    signs = v.gather(2, v.abs().argmax(dim=2, keepdim=True)).sign()
    shapes = {"v": operator.x.shape[1:], "u": operator.y.shape[1:]}
    tensors = {
        "s": (s * s.new_tensor([[point.unit] for point in found])).to(dtype),
        "v": (v * signs).reshape(points, k, *shapes["v"]),
        "u": (u * signs).reshape(points, k, *shapes["u"]),
        "residuals": residuals.to(dtype),
    }
    statuses = tuple(point.status for point in found)
    return LocalBasis(
        **{name: tensor[0] if points == 1 else tensor for name, tensor in tensors.items()},
        status=worst(statuses),
        jvps=sum(p.jvps for p in products),
        vjps=sum(p.vjps for p in products),
        seconds=seconds,
        metadata={**metadata, "versions": {"torch": torch.__version__, "latentjac": _version()}},
        certificate=Certificate.of(found),
        point_status=statuses,
    )


def _version() -> str:
    return str(getattr(sys.modules["latentjac"], "__version__", "unknown"))


def _hand_over(basis: LocalBasis, interrupted: bool, tol: float, strict: bool) -> None:
    """Say how a basis ended to whoever called, in the name of the function that was called.

    Raises:
        KeyboardInterrupt: If Ctrl-C ended it, and it is wanted for something else.
        ConvergenceError: If ``strict`` and it did not converge.
    """
    built = under_construction()
    if built is not None:
        if interrupted:
            raise KeyboardInterrupt
        built.statuses.append(basis.status)
    if basis.status.fine:
        return
    message = _complaint(basis, tol)
    if interrupted:
        interrupts.leave(basis)
    if strict:
        raise ConvergenceError(message, basis)
    warn(message)


def _complaint(basis: LocalBasis, tol: float) -> str:
    where = "" if basis.points == 1 else f" at {sum(s is not Status.CONVERGED for s in basis.point_status)} points"
    largest = f"largest residual {basis.residuals.max().item():.1e}"
    reached = f"{called('svd')}: {basis.status.value}{where} after {basis.metadata['passes']} passes"
    if basis.status is Status.NOT_ADJOINT:
        assert basis.certificate is not None
        mismatch = basis.certificate.adjoint_mismatch.max().item()
        cause = "the operator is wrong, and no number of passes helps"
        if basis.v.dtype == torch.float64 and mismatch < _SINGLE:
            cause = (
                "as where a part of a float64 operator computes in float32: a tol of "
                f"{10 * mismatch:.0e} is within reach"
            )
        differ = f"<u, J v> and <J^T u, v> differ by {mismatch:.1e} of s[0], far above rounding"
        return f"{reached}: {differ}; {cause} ({largest})"
    if basis.metadata.get("stop") == "park2023":
        return f"{reached} with {largest}; the rule of park2023 did not stop it"
    advice = _ADVICE.get(basis.status, "") if under_construction() is None else ""
    return f"{reached} with {largest} > tol = {tol:g}{advice}"
