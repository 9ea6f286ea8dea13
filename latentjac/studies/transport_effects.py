"""Directions of one sample used on another, carried in several ways, and what steps along them do there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm import tqdm

from latentjac.diffusion import Point
from latentjac.geometry import FeatureMap, parallel_transport
from latentjac.models import Model
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis
from latentjac.studies.points import one_sample
from latentjac.studies.settings import Settings
from latentjac.studies.tangent_spaces import TangentSpaces

# How a direction v of the source is used on the target: transported as Park et al. do or by the pseudo-inverse, as
# it is, not at all (the target's own direction of the same rank, whichever sign suits), or a random one.
WAYS = ("park2023", "pseudoinverse", "unchanged", "own", "random")
DIRECTIONS = 3  # at most, the strongest of every sample
# Length of a step in standard deviations of the noise: edits are made of such, and the network is still nearly linear.
DISTANCE = 2.0


@dataclass(frozen=True, repr=False)
class TransportEffects(Shaped):
    """What steps of ``DISTANCE`` along carried directions do at one level, for all ordered pairs of N samples.

    The source is in the first N and the target in the second; entries of a sample with itself are 0.

    Attributes:
        retained: Part of the source's h-direction that lies in the target's tangent space, ``[N, N, q]``.
        cosines: Of the changes of the target's features and of the source's, ``[W, N, N, q]`` in the order of ``WAYS``.
        sizes: Size of the former over that of the latter, ``[W, N, N, q]``.
    """

    retained: torch.Tensor
    cosines: torch.Tensor
    sizes: torch.Tensor


def transport_effects(
    model: Model, spaces: TangentSpaces, level: int, settings: Settings, bar: tqdm | None = None
) -> TransportEffects:
    """Carry the strongest directions of every sample to every other at one level, in all ways.

    Args:
        model: The model of the spaces.
        spaces: From :func:`tangent_spaces`.
        level: Number of the level.
        settings: Whose seed the random directions have.
        bar: Moved on by one for each target.
    """
    point, bases = spaces.points[level], spaces.bases[level]
    q, n = min(DIRECTIONS, bases[0].k), spaces.samples
    features = FeatureMap.at(model, point, "mid")
    length = DISTANCE * point.noise
    generator = torch.Generator().manual_seed(settings.seed)
    random = torch.randn(q, *point.sample.shape[1:], generator=generator, device="cpu").to(point.sample)
    random = random / random.flatten(1).norm(dim=1).view(-1, *[1] * (random.ndim - 1))
    moved = torch.stack([_steps(features, point, i, bases[i].v[:q], length) for i in range(n)])
    retained = torch.zeros(n, n, q, dtype=torch.float64, device="cpu")
    cosines, sizes = (torch.zeros(len(WAYS), n, n, q, dtype=torch.float64, device="cpu") for _ in range(2))
    for b in range(n):
        sources = [a for a in range(n) if a != b]
        carried = [_in_all_ways(bases[a], bases[b], q, random) for a in sources]
        retained[sources, b] = torch.stack([part for _, part in carried]).to(retained)
        rows = torch.stack([v for v, _ in carried])  # [N - 1, W, q, ...]
        steps = _steps(features, point, b, rows.flatten(0, 2), length).reshape(*rows.shape[:3], -1)
        cosines[:, sources, b] = _cosines(steps, moved[sources][:, None])
        sizes[:, sources, b] = (steps.norm(dim=-1) / moved[sources][:, None].norm(dim=-1)).transpose(0, 1).cpu()
        if bar is not None:
            bar.update()
    return TransportEffects(retained, cosines, sizes)


def _in_all_ways(
    source: LocalBasis, target: LocalBasis, q: int, random: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions ``[W, q, ...]`` and what of their effect the target retains, ``[q]``."""
    carried, inverse = (
        parallel_transport(source.v[:q], source, target, method=method) for method in ("park2023", "pseudoinverse")
    )
    return torch.stack([carried.v, inverse.v, source.v[:q], target.v[:q], random]), carried.retained


def _steps(features: FeatureMap, point: Point, sample: int, v: torch.Tensor, length: float) -> torch.Tensor:
    """What steps of one length along directions ``[m, ...]`` do to a sample's features, float64 ``[m, ...]`` flat."""
    x = one_sample(point, sample).sample
    return (features.values(x + length * v) - features.values(x)).double().flatten(1)


def _cosines(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cosines ``[W, N - 1, q]`` of effects ``[N - 1, W, q, m]`` and ``[N - 1, 1, q, m]``."""
    cosines = torch.cosine_similarity(found, wanted, dim=-1).transpose(0, 1).cpu()
    own = WAYS.index("own")
    cosines[own] = cosines[own].abs()  # its sign is a convention
    return cosines
