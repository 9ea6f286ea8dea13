"""Top singular triplets of a linear operator that is known by its products."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import torch

from latentjac.svd.basis import ConvergenceError, LocalBasis, Status
from latentjac.svd.krylov import BlockKrylov, SolverState
from latentjac.svd.orthonormal import orthonormalize


class LinearOperator(Protocol):
    """What :func:`svd` needs of an operator; a :class:`latentjac.Linearization` has it."""

    x: torch.Tensor
    y: torch.Tensor

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        """Products with J: ``[k, *x.shape]`` to ``[k, *y.shape]``."""
        ...

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        """Products with the transpose: ``[k, *y.shape]`` to ``[k, *x.shape]``."""
        ...


def svd(
    operator: LinearOperator,
    k: int = 8,
    tol: float = 1e-3,
    *,
    block_size: int | None = None,
    max_passes: int = 200,
    generator: torch.Generator | None = None,
    warm_start: LocalBasis | torch.Tensor | None = None,
    callback: Callable[[SolverState], Any] | None = None,
    strict: bool = False,
) -> LocalBasis:
    """Top-k singular triplets by block Krylov iteration.

    Args:
        operator: Linearization at one base point, or anything with ``x``, ``y``, ``jvp`` and ``vjp``.
        k: Number of triplets.
        tol: Largest residual ``|J^T u - s v| / s`` that counts as converged.
        block_size: Probes a pass; by default k, but at least 4 and at most 16.
        max_passes: Most passes; one pass is one block of JVPs or of VJPs.
        generator: Source of the start block; a CPU generator seeded with 0 by default, so that the result repeats.
        warm_start: Basis, or directions ``[q, *x.shape[1:]]``, near the wanted ones.
        callback: Called with a :class:`SolverState` after each expansion; returning True stops.
        strict: Raise instead of warning when not converged.

    Returns:
        The triplets with their residuals and counts.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the operator gives NaN or Inf.
        ConvergenceError: If ``strict`` and the tolerance was not reached; carries the partial result.
    """
    k, block_size = _check(operator, k, tol, block_size, max_passes, generator, callback)
    started = time.perf_counter()
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    n, m = operator.x.numel(), operator.y.numel()
    krylov = BlockKrylov(
        lambda rows: operator.jvp(rows.reshape(-1, *operator.x.shape)).reshape(len(rows), m),
        lambda rows: operator.vjp(rows.reshape(-1, *operator.y.shape)).reshape(len(rows), n),
        _start(operator, block_size, warm_start, generator),
        m,
        k,
        block_size,
        max_basis=max(3 * k, k + 4 * block_size),
        generator=generator,
    )
    status = _iterate(krylov, tol, max_passes, callback, warm=warm_start is not None)
    u, s, v, residuals = krylov.triplets()
    u, v = _canonical_signs(u, v)
    basis = LocalBasis(
        s,
        v.reshape(k, *operator.x.shape[1:]),
        u.reshape(k, *operator.y.shape[1:]),
        residuals,
        status,
        krylov.jvps,
        krylov.vjps,
        time.perf_counter() - started,
        {"tol": tol, "block_size": block_size, "passes": krylov.passes, "method": "block Krylov"},
    )
    if status is not Status.CONVERGED:
        message = (
            f"svd: {status.value} after {krylov.passes} passes with largest residual "
            f"{residuals.max().item():.1e} > tol = {tol:g}; raise max_passes or tol"
        )
        if strict:
            raise ConvergenceError(message, basis)
        warnings.warn(message, stacklevel=2)
    return basis


def _iterate(
    krylov: BlockKrylov,
    tol: float,
    max_passes: int,
    callback: Callable[[SolverState], Any] | None,
    warm: bool,
) -> Status:
    k, best, stalled = krylov.k, float("inf"), 0
    # A warm start can hide larger values behind its own for an expansion or two.
    wait = 2 if warm else 0
    while True:
        try:
            grew = krylov.expand()
            d, s, c = krylov.ritz()
            residuals = krylov.residuals(d, s, c)
        except KeyboardInterrupt:
            if not len(krylov.left):
                raise  # nothing to hand back yet
            return Status.INTERRUPTED
        # A vanished value is among the top k only if nothing is left to find.
        complete = int((s > krylov.floor(s)).sum()) >= k or not grew
        converged = int((residuals <= tol).sum())
        if callback is not None:
            state = SolverState(krylov.passes, krylov.jvps, krylov.vjps, s[:k].clone(), residuals, converged)
            if callback(state) is True:
                return Status.INTERRUPTED
        done = complete and converged == k
        if done and grew and wait:
            wait, done = wait - 1, False
        if done and not (grew and _largest_cluster(s[:k]) >= krylov.block and krylov.find_hidden(tol, max_passes)):
            return Status.CONVERGED
        if krylov.passes >= max_passes:
            return Status.OUT_OF_PASSES
        if not grew:
            return Status.STAGNATED
        worst = residuals.max().item()
        # Far larger again: a value that was missing has come in.
        stalled = 0 if worst < 0.9 * best or worst > 100 * best else stalled + 1
        best = worst if worst > 100 * best else min(best, worst)
        # At the rounding level residuals stop falling for good; above it clusters can take a while.
        if stalled >= 8 and best < 1e3 * torch.finfo(krylov.right.dtype).eps:
            return Status.STAGNATED
        krylov.restart(d, c)


def _largest_cluster(s: torch.Tensor) -> int:
    """Size of the largest group of values that agree to 1e-4."""
    steps = (s[:-1] - s[1:]) > 1e-4 * s[:-1]
    edges = [-1, *steps.nonzero()[:, 0].tolist(), len(s) - 1]
    return max(b - a for a, b in pairwise(edges))


def _start(
    operator: LinearOperator, block: int, warm: LocalBasis | torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    x = operator.x
    rows = torch.randn(block, x.numel(), generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    if warm is None:
        return rows
    directions = warm.v if isinstance(warm, LocalBasis) else warm
    if not isinstance(directions, torch.Tensor):
        raise TypeError(f"svd: warm_start must be a LocalBasis or a tensor, got {type(warm).__name__}")
    if directions.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"svd: warm_start must have shape [q, {', '.join(map(str, x.shape[1:]))}], got {list(directions.shape)}"
        )
    known = directions.detach().reshape(len(directions), -1).to(x.device, x.dtype)
    if not torch.isfinite(known).all():
        raise ValueError("svd: warm_start must be finite, got NaN or Inf")
    known = orthonormalize(known)
    # Random rows beside the known ones, to find what those do not contain.
    return torch.cat([known, rows[: max(block - len(known), block // 2, 1)]])


def _canonical_signs(u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip each pair so that the entry of v that is largest in size is positive."""
    signs = v.gather(1, v.abs().argmax(dim=1, keepdim=True)).sign()
    return u * signs, v * signs


def _check(
    operator: Any, k: Any, tol: Any, block_size: Any, max_passes: Any, generator: Any, callback: Any
) -> tuple[int, int]:
    missing = [a for a in ("x", "y", "jvp", "vjp") if not hasattr(operator, a)]
    if missing:
        raise TypeError(f"svd: operator must have x, y, jvp and vjp, got {type(operator).__name__} without {missing}")
    for name, value in (("k", k), ("max_passes", max_passes), ("block_size", k if block_size is None else block_size)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"svd: {name} must be an int, got {type(value).__name__}")
    if operator.x.shape[0] != 1:
        raise ValueError(f"svd: operator must have one base point (dimension 0 of x = 1), got {operator.x.shape[0]}")
    limit = min(operator.x.numel(), operator.y.numel())
    if not 1 <= k <= limit:
        raise ValueError(f"svd: k must be in [1, min(n, m)] = [1, {limit}], got {k}")
    if isinstance(tol, bool) or not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise ValueError(f"svd: tol must be a number in (0, 1), got {tol!r}")
    if max_passes < 2:
        raise ValueError(f"svd: max_passes must be at least 2, got {max_passes}")
    if block_size is None:
        block_size = min(max(4, k), 16)
    elif block_size < 1:
        raise ValueError(f"svd: block_size must be at least 1, got {block_size}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"svd: generator must be a torch.Generator or None, got {type(generator).__name__}")
    if callback is not None and not callable(callback):
        raise TypeError(f"svd: callback must be callable or None, got {type(callback).__name__}")
    return k, min(block_size, operator.x.numel())
