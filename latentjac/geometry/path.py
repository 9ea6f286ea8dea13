"""Lengths and turns of walks in the pullback metric."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_bool, check_overflow, check_tensor
from latentjac.geometry.curvature import angle_between
from latentjac.geometry.feature_map import FeatureMap, check_features
from latentjac.public import public
from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class PathMeasure(Shaped):
    """A walk of n samples as the features see it, float64; every shape has a leading B for several walks.

    Attributes:
        lengths: Length of each segment in the pullback metric, ``[n - 1]``; in units of the features.
        euclidean: Length of each segment in x-space, ``[n - 1]``.
        turning: Angle between the tangents of neighbouring segments in h-space, in radians, ``[n - 2]``.
        chord: Straight distance of the features of both ends, ``[]``.
    """

    lengths: torch.Tensor
    euclidean: torch.Tensor
    turning: torch.Tensor
    chord: torch.Tensor

    @property
    def length(self) -> torch.Tensor:
        """Length of the walk in the pullback metric."""
        return self.lengths.sum(-1)

    @property
    def straightness(self) -> torch.Tensor:
        """Chord over length: 1 where the features go straight, near 0 where they come back."""
        return self.chord / self.length


@public
@torch.no_grad()
def measure_path(features: FeatureMap, samples: torch.Tensor, batched: bool = False) -> PathMeasure:
    """Length and turning of a walk at one timestep.

    Each segment is measured by the Jacobian at its middle, ``|J((a + b) / 2) (b - a)|``: the sum errs in second order
    of the segments' length. One linearization and one JVP a segment, and two evaluations.

    Args:
        features: The map.
        samples: The walk ``[n, ...]`` with n >= 2, or walks ``[B, n, ...]``.
        batched: Whether there are several walks; ``edit.points`` of several distances in ascending order are such.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 2 samples.
    """
    check_features("measure_path", features)
    batched = check_bool("measure_path", "batched", batched)
    walks = check_tensor("measure_path", "samples", samples)
    walks = walks if batched else walks[None]
    if walks.ndim < 3 or walks.shape[1] < 2 or len(walks) == 0:
        expected = "[B, n >= 2, ...] with batched=True" if batched else "[n >= 2, ...]"
        raise ValueError(f"measure_path: samples must have shape {expected}, got {list(samples.shape)}")
    steps = walks[:, 1:] - walks[:, :-1]
    middles = (walks[:, 1:] + walks[:, :-1]) / 2
    tangents = features.tangents(middles.flatten(0, 1), steps.flatten(0, 1)[:, None]).double()
    tangents = tangents.reshape(*steps.shape[:2], -1)
    ends = features.values(torch.cat([walks[:, 0], walks[:, -1]])).double().flatten(1)
    measures = (
        tangents.norm(dim=2),
        steps.double().flatten(2).norm(dim=2),
        angle_between(tangents[:, :-1], tangents[:, 1:]),
        (ends[len(walks) :] - ends[: len(walks)]).norm(dim=1),
    )
    check_overflow("measure_path", "samples", *measures)
    return PathMeasure(*(m if batched else m[0] for m in measures))
