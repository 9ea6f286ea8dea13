"""What a solver says while it runs and what it hands back for each point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from latentjac import stopping
from latentjac.stopping import Bar


class Status(str, Enum):
    """How a decomposition ended.

    Example:
        >>> basis.status
        <Status.CONVERGED: 'converged'>
        >>> basis.status.fine
        True
    """

    CONVERGED = "converged"
    OUT_OF_PASSES = "out of passes"
    OUT_OF_TIME = "out of time"
    STAGNATED = "stagnated at working precision"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped by the paper's rule"
    NOT_ADJOINT = "jvp and vjp are not adjoint"

    @property
    def fine(self) -> bool:
        """Whether it ended as it was meant to."""
        return self in (Status.CONVERGED, Status.STOPPED)


_WORST_FIRST = (
    Status.INTERRUPTED,
    Status.NOT_ADJOINT,
    Status.OUT_OF_TIME,
    Status.OUT_OF_PASSES,
    Status.STAGNATED,
    Status.STOPPED,
    Status.CONVERGED,
)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several: what is said of a basis of several points, or of what is built on several bases."""
    return min(statuses, key=_WORST_FIRST.index)


@dataclass(frozen=True)
class SolverState:
    """What a callback sees after each expansion.

    Attributes:
        passes: Passes so far; one pass is one block of JVPs or of VJPs.
        jvps: Vectors taken through J, over all points.
        vjps: Vectors taken through J^T.
        s: Current estimates of the k largest singular values, ``[k]`` or ``[B, k]``.
        residuals: Their residuals ``|J^T u - s v| / s``.
        converged: How many of the residuals are within the tolerance.
    """

    passes: int
    jvps: int
    vjps: int
    s: torch.Tensor
    residuals: torch.Tensor
    converged: int


@dataclass(frozen=True)
class Found:
    """The triplets of one point, as a solver hands them over.

    Attributes:
        u: ``[k, m]``.
        s: ``[k]``, float64, in multiples of ``unit``; exactly 0 for null vectors and for what was not found.
        v: ``[k, n]``.
        residuals: ``|J^T u - s v| / s``, ``[k]``.
        left_residuals: ``|J v - s u| / s``, ``[k]``.
        status: How it ended.
        next_s: Estimate of the singular value after the last, in multiples of ``unit``; 0 if there is none.
        next_residual: Its residual over itself; inf if unknown.
        mismatch: ``max |<u, J v> - <J^T u, v>|`` over the bases, over the largest singular value.
        unit: A power of two near the norm of the operator: squares of singular values may have no float64.
    """

    u: torch.Tensor
    s: torch.Tensor
    v: torch.Tensor
    residuals: torch.Tensor
    left_residuals: torch.Tensor
    status: Status
    next_s: float
    next_residual: float
    mismatch: float
    unit: float


Callback = Callable[[SolverState], Any]


@contextmanager
def shown(callback: Callback | None, progress: bool, total: int) -> Iterator[Callback | None]:
    """The callback, with a bar of converged triplets beside it if progress is asked for, here or around the call."""
    if not (progress or stopping.heard()):
        yield callback
        return
    with Bar("svd", total, "triplet", shown=progress) as bar:

        def watch(state: SolverState) -> Any:
            bar.n = state.converged
            bar.reach(state.converged)
            bar.set_postfix(passes=state.passes, residual=f"{state.residuals.max().item():.1e}")
            return callback(state) if callback is not None else None

        yield watch
