"""Does the tangent space of a sample turn away as timesteps part?"""

from __future__ import annotations

import torch

from latentjac.geometry import SampleMean, sample_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.studies.curves import constant_curve, curve_of, ends_of, in_both_spaces
from latentjac.studies.finding import Axes, Finding, Heat, columns, study
from latentjac.studies.over_levels import OverLevels, compare_levels
from latentjac.studies.settings import Settings, check_study
from latentjac.studies.tangent_spaces import SPACES, tangent_spaces, unrelated_distance

NAME = "timesteps"
APART = "difference of the noise levels"


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Distances between the tangent spaces of one sample at two levels, for all pairs of levels (Park et al. 2023).

    The number is how much larger the mean relative distance in x-space is between the levels furthest apart than
    between the nearest. Samples are independent; intervals are Student's.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 3 levels: two have one distance, and nothing to compare it with.
    """
    check_study(NAME, model, settings, progress)
    if len(settings.levels) < 3:
        raise ValueError(f"{NAME}: settings.levels must hold at least 3 levels, got {list(settings.levels)}")
    spaces = tangent_spaces(model, settings, NAME, progress)
    over = compare_levels(model, spaces, settings, progress)
    unrelated = unrelated_distance(spaces.bases[0], "x", settings.seed)
    return _finding(over, unrelated)


def by_difference(over: OverLevels, table: torch.Tensor) -> tuple[list[float], torch.Tensor]:
    """Differences of levels, ascending and rounded to hundredths, and means over the pairs that have them, ``[N, D]``.

    Args:
        over: Whose levels they are.
        table: ``[N, L, L]``.
    """
    levels = torch.tensor(over.levels, dtype=torch.float64, device="cpu")
    hundredths = ((levels[:, None] - levels).abs() * 100).round().long()
    steps = sorted(set(hundredths[~torch.eye(len(levels), dtype=torch.bool, device="cpu")].tolist()))
    return [step / 100 for step in steps], torch.stack([table[:, hundredths == step].mean(1) for step in steps], 1)


def _finding(over: OverLevels, unrelated: SampleMean) -> Finding:
    distance_axes = Axes(APART, "relative geodesic distance", "one sample at two levels")
    captured_axes = Axes(APART, "captured part of the Jacobian's energy", "by the tangent space of the other level")
    curves, rises = [], {}
    for space, label in SPACES.items():
        apart, distances = by_difference(over, over.distances[space])
        curves.append(curve_of(label, distance_axes, apart, sample_mean(distances)))
        rises[space] = sample_mean(distances[:, -1] - distances[:, 0])
    curves.append(constant_curve("random subspaces of x-space", distance_axes, apart, unrelated))
    captured = sample_mean(by_difference(over, over.captured)[1])
    curves.append(curve_of("x-space (v)", captured_axes, apart, captured))
    chance = sample_mean(over.captured_by_chance.mean(1))
    curves.append(constant_curve("random subspace", captured_axes, apart, chance))
    holds = all(float(rise.low) > 0 for rise in rises.values())
    sentence = (
        f"The tangent space of a sample {'turns' if holds else 'does not turn'} away as timesteps part: from "
        f"{apart[0]:.2f} to {apart[-1]:.2f} of T apart the mean relative distance goes from "
        + in_both_spaces(curves, rises)
        + f", and the part of the Jacobian's energy that the other space captures from {float(captured.value[0]):.2f} "
        f"to {float(captured.value[-1]):.2f}, over {len(over.captured)} samples."
    )
    return Finding(NAME, columns(over.rows()), tuple(curves), sentence, *ends_of(rises["x"]), holds, _maps(over))


def _maps(over: OverLevels) -> tuple[Heat, ...]:
    """The mean over samples of every table."""
    tables = {f"relative distance, {label}": over.distances[space] for space, label in SPACES.items()}
    tables["captured energy"] = over.captured
    where = {"captured energy": ("noise level t of J", "noise level t of the tangent space")}
    levels = tuple(over.levels)
    return tuple(
        Heat(
            Axes(*where.get(title, ("noise level t", "noise level t of the other")), title),
            levels,
            levels,
            tuple(tuple(row) for row in table.mean(0).tolist()),
        )
        for title, table in tables.items()
    )
