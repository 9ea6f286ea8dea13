"""Do simpler data have tangent spaces that change less over timesteps?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from latentjac.geometry import sample_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.studies.curves import ends_of, level_axes, mean_curve, stated
from latentjac.studies.finding import Axes, Curve, Finding, columns, study
from latentjac.studies.over_levels import OverLevels, compare_levels
from latentjac.studies.settings import Settings, check_study
from latentjac.studies.tangent_spaces import SPACES, TangentSpaces, tangent_spaces
from latentjac.studies.timesteps import APART, by_difference

NAME = "complexity"


@public_as(NAME)
@study(NAME)
def run(models: Sequence[Model], settings: Settings, progress: bool = False) -> Finding:
    """How much tangent spaces of one sample change over levels, for models of different data (Park et al. 2023).

    All models are measured alike: with the same levels, k and seed of the noise. The number is the mean relative
    distance in h-space over all pairs of levels, of the first model minus that of the last. The i-th samples of two
    models make a pair, so the interval is Student's for the mean of their differences.

    A distance depends on where k cuts the spectrum: directions of almost equal singular values turn freely, and one
    model may have more of them than another. So the finding holds only if also the energy of a Jacobian that the
    tangent space of another level captures is larger for the last model; that does not change with the cut.

    Args:
        models: At least two, from the most complex data to the simplest.
        settings: How many samples, levels and directions.
        progress: Show progress bars.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than two models.
    """
    check_study(NAME, models, settings, progress, several=True)
    names = [Path(model.name).name for model in models]  # of a folder its last part
    labels = [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
    measured = {}
    for label, model in zip(labels, models, strict=True):
        spaces = tangent_spaces(model, settings, f"{NAME} of {label}", progress)
        measured[label] = compare_levels(model, spaces, settings, progress), relative_gaps(spaces)
    return finding_of(measured)


def relative_gaps(spaces: TangentSpaces) -> torch.Tensor:
    """``1 - s[k] / s[k - 1]`` (counted from 0) of every sample and level ``[N, L]``, as far as certificates tell.

    The smaller, the freer the last direction of a basis is to turn into one outside.
    """
    gaps = torch.zeros(spaces.samples, len(spaces.levels), dtype=torch.float64, device="cpu")
    for level, bases in enumerate(spaces.bases):
        for sample, basis in enumerate(bases):
            assert basis.certificate is not None  # only bases from old files have none
            gaps[sample, level] = 1 - float(basis.certificate.next_s) / float(basis.s[-1])
    return gaps


def finding_of(measured: dict[str, tuple[OverLevels, torch.Tensor]]) -> Finding:
    """The finding from what was measured on every model.

    Args:
        measured: For each model the comparison of its levels and its gaps ``[N, L]``, the most complex data first.
    """
    rows = [{"model": label} | row for label, (over, _) in measured.items() for row in over.rows()]
    curves = [curve for label, (over, gaps) in measured.items() for curve in _curves(label, over, gaps)]
    (first, complex_), *_, (last, simple) = ((label, over) for label, (over, _) in measured.items())
    distances = [_over_pairs(over.distances["h"]) for over in (complex_, simple)]
    captured = [_over_pairs(over.captured) for over in (complex_, simple)]
    nearer, more = sample_mean(distances[0] - distances[1]), sample_mean(captured[1] - captured[0])
    holds = float(nearer.low) > 0 and float(more.low) > 0
    sentence = (
        f"Tangent spaces of {last} {'change' if holds else 'do not surely change'} less over timesteps than those of "
        f"{first}: their mean relative distance in h-space is {_both(distances)} (less by {stated(nearer)}), and of "
        f"the Jacobian's energy at another timestep they capture {_both(captured)} (more by {stated(more)}), over "
        f"{nearer.n} samples each."
    )
    return Finding(NAME, columns(rows), tuple(curves), sentence, *ends_of(nearer), holds)


def _over_pairs(table: torch.Tensor) -> torch.Tensor:
    """Means ``[N]`` of tables ``[N, L, L]`` over pairs of different levels."""
    return table[:, ~torch.eye(table.shape[1], dtype=torch.bool, device="cpu")].mean(1)


def _both(means: list[torch.Tensor]) -> str:
    return f"{float(means[1].mean()):.2f} against {float(means[0].mean()):.2f}"


def _curves(label: str, over: OverLevels, gaps: torch.Tensor) -> list[Curve]:
    """Distances, captured energy and gaps of one model."""
    tables = {
        Axes(APART, "relative geodesic distance", f"one sample at two levels, {space}"): over.distances[name]
        for name, space in SPACES.items()
    }
    tables[Axes(APART, "captured part of the Jacobian's energy", "by the tangent space of the other level")] = (
        over.captured
    )
    curves = []
    for axes, table in tables.items():
        apart, values = by_difference(over, table)
        curves.append(mean_curve(label, axes, apart, values))
    return [*curves, mean_curve(label, level_axes("gap behind the k-th singular value, relative"), over.levels, gaps)]
