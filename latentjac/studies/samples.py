"""Do the tangent spaces of different samples part as noise falls?"""

from __future__ import annotations

import torch

from latentjac.geometry import SampleMean, pair_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.studies.curves import constant_curve, curve_of, ends_of, in_both_spaces, level_axes
from latentjac.studies.finding import Curve, Finding, columns, study
from latentjac.studies.settings import Settings, check_samples, check_study
from latentjac.studies.tangent_spaces import (
    SPACES,
    BySpace,
    TangentSpaces,
    relative_distances,
    tangent_spaces,
    unrelated_distance,
)

NAME = "samples"


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Geodesic distances of the tangent spaces of all pairs of samples, over noise levels (Park et al. 2023).

    Distances are relative to the largest possible, in x-space and in h-space. Pairs share samples, so intervals leave
    one sample out in turn (:func:`latentjac.geometry.pair_mean`). The number is the rise of the mean distance in
    x-space from the noisiest to the cleanest level.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 3 samples.
    """
    check_study(NAME, model, settings, progress)
    check_samples(NAME, settings, 3)
    spaces = tangent_spaces(model, settings, NAME, progress)
    distances = sample_distances(spaces)
    upper = torch.triu_indices(spaces.samples, spaces.samples, 1, device="cpu")
    rows = [
        {"t": t, "sample": a, "other": b}
        | {f"distance_{space}": float(distances[space][a, b, level]) for space in SPACES}
        for level, t in enumerate(spaces.levels)
        for a, b in upper.T.tolist()
    ]
    return _finding(columns(rows), spaces, distances, settings)


def sample_distances(spaces: TangentSpaces) -> BySpace:
    """Relative distances of all pairs of samples at every level, ``[N, N, L]`` each."""
    return BySpace.of(lambda s: torch.stack([relative_distances(bases, s) for bases in spaces.bases], dim=-1))


def _finding(table: dict[str, list], spaces: TangentSpaces, distances: BySpace, settings: Settings) -> Finding:
    axes = level_axes("relative geodesic distance", "two samples at one level")
    curves: list[Curve] = []
    rises: dict[str, SampleMean] = {}
    for space, label in SPACES.items():
        curves.append(curve_of(label, axes, spaces.levels, pair_mean(distances[space])))
        rises[space] = pair_mean(distances[space][..., -1] - distances[space][..., 0])
    unrelated = unrelated_distance(spaces.bases[0], "x", settings.seed)
    curves.append(constant_curve("random subspaces of x-space", axes, spaces.levels, unrelated))
    holds = all(float(rise.low) > 0 for rise in rises.values())
    sentence = (
        f"Tangent spaces of different samples {'part' if holds else 'do not part'} as noise falls: from "
        f"t = {spaces.levels[0]:.2f} to t = {spaces.levels[-1]:.2f} their mean relative distance goes from "
        + in_both_spaces(curves, rises)
        + f", over {spaces.samples} samples; random subspaces are {float(unrelated.value):.2f} apart."
    )
    return Finding(NAME, table, tuple(curves), sentence, *ends_of(rises["x"]), holds)
