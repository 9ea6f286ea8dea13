"""At which noise level does the network listen to the fewest directions?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from latentjac.diffusion import Point, linearization_at
from latentjac.geometry import sample_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.solvers import effective_rank
from latentjac.stopping import Bar
from latentjac.studies.curves import level_axes, mean_curve, mean_ratio
from latentjac.studies.finding import Curve, Finding, columns, study
from latentjac.studies.points import followed_points, one_sample
from latentjac.studies.settings import Settings, check_study

NAME = "rank"
LAYERS = ("mid", "x0")
# The rank of LOCO Edit is the least r with sqrt(sum of the first r s^2) > 0.99 sqrt(sum of all s^2); the first version
# of Park et al. counts the eigenvalues of J^T J, which are s^2, up to half of their sum.
LOCO, HALF = 0.99**2, 0.5
# That rank ends far down the spectrum, which few Lanczos steps do not resolve: many, for few random vectors.
_PROBES, _LANCZOS_STEPS = 2, 32


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Effective ranks of the Jacobians of h-space and of the posterior mean x0 (Chen et al. 2024, "LOCO Edit").

    The number is the t at which the rank of x0's Jacobian is least: the mean over samples of each one's own level, with
    an interval that half a step between levels is added to.

    Raises:
        TypeError: If an argument has a wrong type.
    """
    check_study(NAME, model, settings, progress)
    points = followed_points(model, settings, progress)
    # One source for all estimates: with the same probes everywhere, samples would share their errors.
    generator = torch.Generator().manual_seed(settings.seed)
    rows = []
    with Bar(NAME, len(LAYERS) * len(points) * settings.samples, shown=progress) as bar:
        for layer in LAYERS:
            for point in points:
                for sample in range(settings.samples):
                    measured = _ranks(model, one_sample(point, sample), layer, settings.k, generator)
                    rows.append({"layer": layer, "t": point.t, "sample": sample, **measured})
                    bar.update()
    size = points[0].sample[0].numel()
    return _finding(columns(rows), [point.t for point in points], settings.samples, size)


def _ranks(model: Model, point: Point, layer: str, k: int, generator: torch.Generator) -> dict[str, float]:
    """Ranks at one sample, each with its interval over probes."""
    lin = linearization_at(model, point, layer)
    found = effective_rank(lin, k, probes=_PROBES, steps=_LANCZOS_STEPS, generator=generator)
    estimates = {
        "loco": found.count_holding(LOCO),
        "half": found.count_holding(HALF),
        "participation": found.participation,
        "entropy": found.entropy,
        "stable": found.stable,
        "energy": found.energy,
    }
    values = {"largest_s": float(found.s[0])}
    for name, estimate in estimates.items():
        values |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return values


def _finding(table: dict[str, list[Any]], levels: list[float], samples: int, size: int) -> Finding:
    def of(quantity: str, layer: str) -> torch.Tensor:
        """``[samples, levels]``."""
        values = [v for v, name in zip(table[quantity], table["layer"], strict=True) if name == layer]
        return torch.tensor(values, dtype=torch.float64, device="cpu").reshape(len(levels), samples).T

    ranks = of("loco", "x0")
    number, interval = _least_level(ranks, levels)
    lowest = int(ranks.log().mean(0).argmin())
    ends = [i for i in (0, len(levels) - 1) if i != lowest]
    holds = len(ends) == 2 and all(float(mean_ratio(ranks[:, i], ranks[:, lowest]).low) > 1 for i in ends)
    mean = sample_mean(ranks.log()).map(torch.exp)
    least, low, high = (m.tolist() for m in (mean.value, mean.low, mean.high))
    sentence = (
        f"The Jacobian of the posterior mean {'has' if holds else 'does not have'} its lowest rank at a middle noise "
        f"level: the least is at t = {number:.2f} [{interval[0]:.2f}, {interval[1]:.2f}], and at t = "
        f"{levels[lowest]:.2f} {least[lowest]:.0f} [{low[lowest]:.0f}, {high[lowest]:.0f}] of {size} singular values "
        f"hold 98% of its energy, against {least[0]:.0f} at t = {levels[0]:.2f} and {least[-1]:.0f} at t = "
        f"{levels[-1]:.2f}, over {samples} samples."
    )
    return Finding(NAME, table, _curves(of, levels), sentence, number, interval, holds)


def _least_level(ranks: torch.Tensor, levels: list[float]) -> tuple[float, tuple[float, float]]:
    """Mean t of the least rank; a level stands for the t up to half of the step to its neighbour."""
    own = torch.tensor(levels, dtype=torch.float64, device="cpu")[ranks.argmin(1)]
    mean = sample_mean(own)
    half = max(abs(a - b) for a, b in pairwise(levels)) / 2
    low, high = float(mean.low) - half, float(mean.high) + half
    return float(mean.value), (max(low, 0.0), min(high, 1.0))


def _curves(of: Any, levels: list[float]) -> tuple[Curve, ...]:
    titles = {
        "loco": "singular values with 98% of the energy",
        "half": "singular values with half of the energy",
        "participation": "participation ratio",
    }
    return tuple(
        mean_curve(layer, level_axes(title, y_log=True), levels, of(quantity, layer), geometric=True)
        for quantity, title in titles.items()
        for layer in LAYERS
    )
