"""What a solver says while it runs and what it hands back for each point."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch


class Status(str, Enum):
    """How a decomposition ended."""

    CONVERGED = "converged"
    OUT_OF_PASSES = "out of passes"
    OUT_OF_TIME = "out of time"
    STAGNATED = "stagnated at working precision"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped by the paper's rule"


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
        s: ``[k]``, float64.
        v: ``[k, n]``.
        residuals: ``|J^T u - s v| / s``, ``[k]``.
        left_residuals: ``|J v - s u| / s``, ``[k]``.
        status: How it ended.
        next_s: Estimate of the singular value after the last; 0 if there is none.
        next_residual: Its residual over itself; inf if unknown.
        mismatch: ``max |<u, J v> - <J^T u, v>|`` over the bases, over the largest singular value.
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
