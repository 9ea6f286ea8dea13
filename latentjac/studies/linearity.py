"""How far is the network what its Jacobian says?"""

from __future__ import annotations

import math
from typing import Any

import torch

from latentjac.diffusion import Point
from latentjac.geometry import FeatureMap, feature_linearity, sample_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.stopping import Bar
from latentjac.studies.curves import ends_of, level_axes, mean_curve
from latentjac.studies.finding import Axes, Curve, Finding, columns, study
from latentjac.studies.points import bases_at, followed_points, one_sample
from latentjac.studies.settings import Settings, check_study

NAME = "linearity"
LAYERS = ("x0", "mid")
KINDS = ("top", "random")
MEASURES = ("deviation", "cosine", "norm_ratio")
# Root mean square change of a value of the sample, so that resolutions compare. LOCO Edit's own edits, 4 to 12 long on
# 256x256 pictures, are 0.009 to 0.027 by this measure.
STEPS = (0.001, 0.003, 0.01, 0.03, 0.1)
EDIT = 0.03


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """``f(x + lambda v)`` against ``f(x) + lambda J v`` for h-space and the posterior mean x0 (Chen et al. 2024).

    Along the top k directions of each local basis and along k random ones. The number is the relative deviation of x0
    at the length of a long edit, along its top directions: its geometric mean over directions, levels and samples. The
    finding holds if less than half of the change is missed.

    Raises:
        TypeError: If an argument has a wrong type.
    """
    check_study(NAME, model, settings, progress)
    points = followed_points(model, settings, progress)
    generator = torch.Generator().manual_seed(settings.seed)
    rows: list[dict[str, Any]] = []
    with Bar(NAME, len(LAYERS) * len(points) * settings.samples, shown=progress) as bar:
        for layer in LAYERS:
            for point in points:
                for sample, basis in enumerate(bases_at(model, point, settings, layer)):
                    random = torch.randn(basis.v.shape, generator=generator, device="cpu").to(basis.v)
                    here = {"layer": layer, "t": point.t, "sample": sample}
                    rows += _rows(here, model, one_sample(point, sample), layer, torch.cat([basis.v, random]))
                    bar.update()
    return _finding(columns(rows), [point.t for point in points], settings)


def _rows(
    here: dict[str, Any], model: Model, point: Point, layer: str, directions: torch.Tensor
) -> list[dict[str, Any]]:
    """One row for each of the directions, of which the second half is random, and each length."""
    unit = math.sqrt(point.sample[0].numel())
    features = FeatureMap.at(model, point, layer)
    found = feature_linearity(features, point.sample, directions, [step * unit for step in STEPS])
    k = len(directions) // 2
    return [
        {
            **here,
            "kind": KINDS[i // k],
            "direction": i % k + 1,
            "step": step,
            **{name: float(getattr(found, name)[i, j]) for name in MEASURES},
        }
        for i in range(len(directions))
        for j, step in enumerate(STEPS)
    ]


def _finding(table: dict[str, list[Any]], levels: list[float], settings: Settings) -> Finding:
    shape = len(LAYERS), len(levels), settings.samples, len(KINDS), settings.k, len(STEPS)
    # [layer, kind, sample, level, step], means over directions; a deviation varies by factors, so of its logarithm.
    values = {name: torch.tensor(table[name], dtype=torch.float64, device="cpu").reshape(shape) for name in MEASURES}
    values["deviation"] = values["deviation"].clamp_min(1e-12).log()  # a linear network deviates by nothing
    means = {name: v.mean(4).permute(0, 3, 2, 1, 4) for name, v in values.items()}
    means["deviation"] = means["deviation"].exp()
    edit = STEPS.index(EDIT)
    at_edit = {name: sample_mean(m[0, 0, :, :, edit].mean(1)) for name, m in means.items()}
    missed = sample_mean(means["deviation"][0, 0, :, :, edit].log().mean(1)).map(torch.exp)
    number, (low, high) = ends_of(missed)
    holds = high < 0.5
    cosine, ratio = (
        f"{float(m.value):.3f} [{float(m.low):.3f}, {float(m.high):.3f}]"
        for m in (at_edit["cosine"], at_edit["norm_ratio"])
    )
    sentence = (
        f"The posterior mean is {'mostly' if holds else 'not'} linear over the length of an edit (root mean square "
        f"{EDIT} along its top directions): it deviates from its linearization by {number:.2f} [{low:.2f}, {high:.2f}] "
        f"of the change, while the cosine of the two is {cosine} and their norm ratio {ratio}, over {settings.samples} "
        f"samples."
    )
    return Finding(NAME, table, _curves(means, levels, edit), sentence, number, (low, high), holds)


def _curves(means: dict[str, torch.Tensor], levels: list[float], edit: int) -> tuple[Curve, ...]:
    """Each measure over levels at the length of an edit, and over lengths at three levels."""
    labels = {"deviation": "relative deviation", "cosine": "cosine", "norm_ratio": "norm ratio"}
    curves = []
    for name, label in labels.items():
        geometric = name == "deviation"
        axes = level_axes(label, f"steps of {EDIT}", y_log=geometric)
        curves += [
            mean_curve(f"{layer}, {kind} directions", axes, levels, means[name][i, j, :, :, edit], geometric=geometric)
            for i, layer in enumerate(LAYERS)
            for j, kind in enumerate(KINDS)
        ]
    for name, label in labels.items():
        geometric = name == "deviation"
        axes = Axes("root mean square step", label, "x0, top directions", x_log=True, y_log=geometric)
        curves += [
            mean_curve(f"t = {levels[i]:.2f}", axes, STEPS, means[name][0, 0, :, i], geometric=geometric)
            for i in sorted({0, len(levels) // 2, len(levels) - 1})
        ]
    return tuple(curves)
