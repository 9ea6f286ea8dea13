"""Angles and distances between tangent spaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from latentjac.geometry.rows import stack_tangent_rows, tangent_rows
from latentjac.public import public
from latentjac.solvers import LocalBasis


@dataclass(frozen=True)
class SubspaceDistance:
    """Distances of two subspaces, all functions of their principal angles.

    Attributes:
        angles: Principal angles in radians, ascending, float64 ``[k]``, or ``[B, k]`` for B pairs.
    """

    angles: torch.Tensor = field(repr=False)

    @property
    def geodesic(self) -> torch.Tensor:
        """Length of the shortest path on the Grassmannian, ``|theta|_2`` in radians."""
        return self.angles.norm(dim=-1)

    @property
    def relative(self) -> torch.Tensor:
        """Geodesic distance over the largest possible, ``pi/2 sqrt k``; in [0, 1]."""
        return self.geodesic / (math.pi / 2 * math.sqrt(self.angles.shape[-1]))

    @property
    def chordal(self) -> torch.Tensor:
        """``|2 sin(theta/2)|_2``: Frobenius distance of the two bases turned as near as they get (Procrustes)."""
        return (2 * (self.angles / 2).sin()).norm(dim=-1)

    @property
    def projection(self) -> torch.Tensor:
        """``|sin theta|_2``: Frobenius distance of the projectors over ``sqrt 2``, for equal dimensions."""
        return self.angles.sin().norm(dim=-1)

    @property
    def gap(self) -> torch.Tensor:
        """Sine of the largest angle: spectral distance of the projectors, for equal dimensions."""
        return self.angles[..., -1].sin()

    def __repr__(self) -> str:
        largest, geodesic = float(self.angles.max()), float(self.geodesic.max())
        return f"SubspaceDistance(angles {list(self.angles.shape)}, largest {largest:.3g}, geodesic {geodesic:.3g})"


@public
def principal_angles(a: LocalBasis | torch.Tensor, b: LocalBasis | torch.Tensor, space: str = "x") -> torch.Tensor:
    """Principal angles between tangent spaces.

    Cosines are singular values of ``A B^T`` and say nothing of angles below 1e-8; sines are those of
    ``B - B A^T A`` and say nothing near a right angle. The angle of the pair is accurate everywhere (Björck & Golub
    1973; Knyazev & Argentati 2002).

    Args:
        a: A basis, or orthonormal rows ``[k, n]`` or ``[B, k, n]``.
        b: The same; another k is allowed, and one point is compared with each of several.
        space: Which vectors of a basis count: ``"x"`` its v, ``"h"`` its u.

    Returns:
        Angles in [0, pi/2] radians, ascending, float64 ``[min k]``, or ``[B, min k]`` for several points.

    Raises:
        TypeError: If an argument is neither a basis nor a tensor.
        ValueError: If rows are not orthonormal, or sizes or numbers of points do not fit.
    """
    rows = tangent_rows("principal_angles", "a", a, space), tangent_rows("principal_angles", "b", b, space)
    points, sizes = [len(r) for r in rows], [r.shape[2] for r in rows]
    if sizes[0] != sizes[1]:
        raise ValueError(f"principal_angles: b must lie in the space of a, of dimension {sizes[0]}, got {sizes[1]}")
    if points[0] != points[1] and 1 not in points:
        raise ValueError(f"principal_angles: b must hold 1 or {points[0]} points as a does, got {points[1]}")
    angles = angles_of_rows(*rows)
    return angles[0] if points == [1, 1] else angles


@public
def subspace_distance(a: LocalBasis | torch.Tensor, b: LocalBasis | torch.Tensor, space: str = "x") -> SubspaceDistance:
    """Distances of tangent spaces on the Grassmannian; arguments and errors are those of :func:`principal_angles`.

    The paper's ``D_geo`` is ``geodesic``, between local bases of two samples, timesteps or prompts.
    """
    return SubspaceDistance(principal_angles(a, b, space))


@public
def pairwise_distances(bases: Sequence[Any] | LocalBasis | torch.Tensor, space: str = "x") -> torch.Tensor:
    """Geodesic distances between the tangent spaces of N samples.

    Args:
        bases: A basis of N points, a sequence of N bases, or orthonormal rows ``[N, k, n]``.
        space: ``"x"`` or ``"h"``.

    Returns:
        Symmetric float64 ``[N, N]`` in radians, with zeros on the diagonal.

    Raises:
        TypeError: If bases are something else.
        ValueError: If there are fewer than 2, or they do not agree in size.
    """
    rows = stack_tangent_rows("pairwise_distances", bases, space)
    distances = rows.new_zeros(len(rows), len(rows))
    for i in range(len(rows) - 1):
        distances[i, i + 1 :] = angles_of_rows(rows[i : i + 1], rows[i + 1 :]).norm(dim=1)
    return distances + distances.T


def angles_of_rows(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Principal angles of orthonormal float64 rows ``[B, k, n]``, of which one may hold one point; ``[B, min k]``."""
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    cross = b @ a.mT
    cosines = torch.linalg.svdvals(cross)
    sines = torch.linalg.svdvals(b - cross @ a).flip(-1)
    return torch.atan2(sines, cosines)
