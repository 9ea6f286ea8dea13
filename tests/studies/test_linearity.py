"""The study's rows against f and a tangent computed here, and how its number answers."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from networks import build_scheduler, build_shallow_unet

import latentjac
from latentjac.studies import STUDIES, Settings
from latentjac.studies.linearity import EDIT, KINDS, LAYERS, STEPS, _finding
from latentjac.studies.points import bases_at, followed_points, one_sample

SETTINGS = Settings(samples=2, levels=(0.9, 0.3), k=2, tol=1e-6, steps=10)


def test_rows_are_what_f_and_its_jacobian_say() -> None:
    model = latentjac.load(build_shallow_unet().double(), build_scheduler())
    table = STUDIES["linearity"].run(model, SETTINGS).table
    assert len(table["t"]) == len(LAYERS) * 2 * 2 * len(KINDS) * SETTINGS.k * len(STEPS)
    random = {d for d, kind in zip(table["deviation"], table["kind"], strict=True) if kind == "random"}
    assert len(random) == len(table["t"]) / 2  # no direction is drawn twice
    point = followed_points(model, SETTINGS)[1]
    x, t = one_sample(point, 1).sample, torch.tensor(point.timestep)
    for layer in LAYERS:
        v = bases_at(model, point, SETTINGS, layer)[1].v[1:2]
        change = EDIT * math.sqrt(3 * 8 * 8) * v
        f = model.feature_map(layer)
        tangent = model.linearization(layer, x, t).jvp(change[None])[0]
        there, predicted = f(x + change, t), f(x, t) + tangent
        wanted = {"layer": layer, "t": point.t, "sample": 1, "kind": "top", "direction": 2, "step": EDIT}
        (row,) = (i for i in range(len(table["t"])) if all(table[name][i] == value for name, value in wanted.items()))
        assert table["deviation"][row] == pytest.approx(float((there - predicted).norm() / tangent.norm()), rel=1e-6)
        assert table["norm_ratio"][row] == pytest.approx(float(there.norm() / predicted.norm()), rel=1e-9)
        cosine = torch.nn.functional.cosine_similarity(there.flatten(), predicted.flatten(), 0)
        assert table["cosine"][row] == pytest.approx(float(cosine), rel=1e-9)


def made(deviation: float) -> dict[str, list]:
    """Deviations of x0's top directions at the length of an edit 4 and 1/4 times a number, all others 9."""
    rows = list(product(LAYERS, (0.9, 0.1), range(3), KINDS, range(2), STEPS))
    own = [layer == "x0" and kind == "top" and step == EDIT for layer, _, _, kind, _, step in rows]
    factors = [4.0 if direction else 0.25 for *_, direction, _ in rows]
    values = [deviation * factor if mine else 9.0 for mine, factor in zip(own, factors, strict=True)]
    return {"deviation": values, "cosine": [0.5] * len(rows), "norm_ratio": [2.0] * len(rows)}


@pytest.mark.parametrize(("deviation", "holds"), [(0.2, True), (0.7, False)])
def test_the_number_is_the_deviation_of_an_edit(deviation: float, holds: bool) -> None:
    finding = _finding(made(deviation), [0.9, 0.1], Settings(samples=3, levels=(0.9, 0.1), k=2))
    assert finding.number == pytest.approx(deviation)
    assert finding.interval == pytest.approx((deviation, deviation))
    assert finding.holds == holds
    assert f"is {'mostly' if holds else 'not'} linear" in finding.sentence
    assert "cosine of the two is 0.500" in finding.sentence
