"""The mean of tangent spaces on the Grassmannian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.arguments import check_int, check_number
from latentjac.geometry.grassmann import exponential, logarithm
from latentjac.geometry.intervals import SampleMean, sample_mean
from latentjac.geometry.rows import stack_tangent_rows
from latentjac.linear_algebra import orthogonal_part, part_in_span
from latentjac.public import public, warn
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis
from latentjac.solvers.orthonormal import orthonormalize, polish

# Rounds of (sum of projectors) times basis, which lead near the mean wherever the iteration itself would be slow.
_START_ROUNDS = 3
MOST_ITERATIONS = 1_000_000
_LONGEST_STEP = 10.0
_MEMORY = 5  # steps that a sum of squared distances is compared with: the lengthened ones go up and down a little


@dataclass(frozen=True, repr=False)
class FrechetMean(Shaped):
    """The subspace with the least sum of squared geodesic distances to N others.

    Attributes:
        rows: An orthonormal basis of it, float64 ``[k, n]``; the choice of basis means nothing.
        distances: Geodesic distance of each sample to it, ``[N]`` in radians.
        gradient: Norm of the mean tangent to the samples, in radians; 0 at a mean.
        iterations: Steps taken.
        converged: Whether the gradient got below the tolerance.
    """

    rows: torch.Tensor
    distances: torch.Tensor
    gradient: float
    iterations: int
    converged: bool

    @public
    def spread(self, confidence: float = 0.95) -> SampleMean:
        """Mean distance of the samples with Student's interval; slightly too small, as the mean was fitted to them."""
        return sample_mean(self.distances, confidence=confidence)


@public
def frechet_mean(
    bases: Sequence[Any] | LocalBasis | torch.Tensor, space: str = "h", tol: float = 1e-9, max_iterations: int = 200
) -> FrechetMean:
    """Fréchet (Karcher) mean of tangent spaces.

    Goes from the mean so far along the mean of the tangents that lead to the samples, in float64 on the device of the
    bases. Samples far apart flatten the sum of squared distances, so steps are lengthened by the curvature that the
    last one met; a step that makes the sum larger than the last few were is halved. The mean is unique if all samples
    lie within pi/4 of one subspace (largest angle); further apart, a local one is found.

    Args:
        bases: A basis of N points, a sequence of N bases, or orthonormal rows ``[N, k, n]``.
        space: ``"h"`` for the spans of u, as Park et al.'s code has it, or ``"x"`` for those of v.
        tol: Largest norm of the mean tangent, in radians.
        max_iterations: Most steps, at most ``MOST_ITERATIONS``; a warning says if they were not enough.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 2 samples, they do not agree in size, or an argument is out of range.
    """
    tol = check_number("frechet_mean", "tol", tol, 0, 1)
    max_iterations = check_int("frechet_mean", "max_iterations", max_iterations, 1, MOST_ITERATIONS)
    samples = stack_tangent_rows("frechet_mean", bases, space)
    # The mean lies in the span of all samples: their coordinates there are all that is needed, and mostly far fewer.
    frame = torch.linalg.qr(samples.flatten(0, 1).mT)[0].mT
    samples = samples @ frame.mT
    mean = samples[0]
    for _ in range(_START_ROUNDS):
        mean = _span_of_average(samples, mean)
    mean, distances, gradient, iterations = _descend(samples, mean, tol, max_iterations)
    if gradient > tol:
        warn(f"frechet_mean: not converged after {iterations} iterations: mean tangent {gradient:.1e}, tol {tol:.1e}")
    return FrechetMean(polish((mean @ frame)[None])[0], distances, gradient, iterations, gradient <= tol)


def _descend(
    samples: torch.Tensor, mean: torch.Tensor, tol: float, max_iterations: int
) -> tuple[torch.Tensor, torch.Tensor, float, int]:
    """Mean, distances to it, norm of the mean tangent and number of steps."""
    tangent, distances = _average_tangent(mean, samples)
    spreads, step, iterations = [distances.square().sum()], 1.0, 0
    while float(tangent.norm()) > tol and iterations < max_iterations:
        iterations += 1
        moved = exponential(mean, step * tangent)
        ahead, farther = _average_tangent(moved, samples)
        spread = farther.square().sum()
        # Rounding decides about equal sums near the end.
        if spread > max(spreads[-_MEMORY:]) * (1 + 1e-12):
            step /= 2
            continue
        step = _next_step(orthogonal_part(tangent, moved), ahead, step)
        mean, tangent, distances = moved, ahead, farther
        spreads.append(spread)
    return mean, distances, float(tangent.norm()), iterations


def _next_step(before: torch.Tensor, now: torch.Tensor, step: float) -> float:
    """Inverse of the curvature met on the last step (Barzilai & Borwein 1988), at least 1."""
    change = float((before * (before - now)).sum())
    return min(max(step * float(before.square().sum()) / change, 1.0), _LONGEST_STEP) if change > 0 else 1.0


def _span_of_average(samples: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """One round of orthogonal iteration with the sum of the samples' projectors; the old mean if it degenerates."""
    total = torch.zeros_like(mean)
    for sample in samples:
        total += part_in_span(mean, sample)
    rows = orthonormalize(total)
    return rows if rows.norm(dim=1).all() else mean


def _average_tangent(mean: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the tangents to all samples, and their lengths; one at a time, as many may be large."""
    total, distances = torch.zeros_like(mean), []
    for sample in samples:
        tangent = logarithm(mean, sample)
        total += tangent
        distances.append(tangent.norm())
    return total / len(samples), torch.stack(distances)
