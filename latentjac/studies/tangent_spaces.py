"""Tangent spaces of the same samples at every level, and how far apart unrelated ones would be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from latentjac.diffusion import Point
from latentjac.geometry import SampleMean, pairwise_distances, sample_mean, subspace_distance
from latentjac.models import Model
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis
from latentjac.stopping import Bar
from latentjac.studies.points import bases_at, followed_points
from latentjac.studies.settings import Settings

# The two tangent spaces of a local basis: the span of its v and that of its u.
SPACES = {"x": "x-space (v)", "h": "h-space (u)"}
_UNRELATED_PAIRS = 16


@dataclass(frozen=True, repr=False)
class BySpace(Shaped):
    """A tensor for each of the two tangent spaces.

    Attributes:
        x: That of x-space.
        h: That of h-space.
    """

    x: torch.Tensor
    h: torch.Tensor

    @classmethod
    def of(cls, make: Callable[[str], torch.Tensor]) -> BySpace:
        """What a function of ``"x"`` and ``"h"`` makes of each."""
        return cls(make("x"), make("h"))

    def __getitem__(self, space: str) -> torch.Tensor:
        return {"x": self.x, "h": self.h}[space]


@dataclass(frozen=True)
class TangentSpaces:
    """Local bases of N followed samples at L levels, from noise to image.

    Attributes:
        points: One a level; each holds all samples.
        bases: ``bases[level][sample]``.
    """

    points: tuple[Point, ...]
    bases: tuple[tuple[LocalBasis, ...], ...]

    @property
    def levels(self) -> list[float]:
        """Noise levels as they are on the grid, fractions of T."""
        return [point.t for point in self.points]

    @property
    def samples(self) -> int:
        """Number of samples, N."""
        return len(self.bases[0])


def tangent_spaces(model: Model, settings: Settings, name: str, progress: bool = False) -> TangentSpaces:
    """Follow generated samples down the levels and compute the local basis of each at each, in h-space's geometry.

    Args:
        model: The model.
        settings: How many samples, levels and directions.
        name: Of the study, for the progress bar.
        progress: Show progress bars.
    """
    points = followed_points(model, settings, progress)
    with Bar(name, len(points) * settings.samples, "basis", shown=progress) as bar:
        bases = tuple(tuple(bases_at(model, point, settings, bar=bar)) for point in points)
    return TangentSpaces(points, bases)


def relative_distances(bases: Sequence[LocalBasis], space: str) -> torch.Tensor:
    """Geodesic distances of all pairs of bases ``[N, N]``, relative to the largest possible; on the CPU.

    Args:
        bases: N, all with one k.
        space: ``"x"`` or ``"h"``.
    """
    return pairwise_distances(bases, space).cpu() / (math.pi / 2 * math.sqrt(bases[0].k))


def unrelated_distance(bases: Sequence[LocalBasis], space: str, seed: int) -> SampleMean:
    """Mean relative geodesic distance of random subspaces as large as a basis, with its interval.

    This is what no relation at all looks like; in spaces of high dimension it is near 1.

    Args:
        bases: Bases of one model and layer.
        space: ``"x"`` or ``"h"``.
        seed: Of the random subspaces.
    """
    basis = bases[0]
    dimension = (basis.v if space == "x" else basis.u)[0].numel()
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(
        2, _UNRELATED_PAIRS, dimension, basis.k, generator=generator, dtype=torch.float64, device="cpu"
    )
    one, other = torch.linalg.qr(normal)[0].mT
    return sample_mean(subspace_distance(one, other).relative)
