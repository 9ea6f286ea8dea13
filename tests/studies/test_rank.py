"""Ranks of the study against dense Jacobians, and the level of the least one."""

from __future__ import annotations

import pytest
import torch
from networks import build_scheduler, build_shallow_unet

import latentjac
from latentjac.studies import STUDIES, Settings
from latentjac.studies.points import followed_points, one_sample
from latentjac.studies.rank import HALF, LAYERS, LOCO, _finding

SETTINGS = Settings(samples=2, levels=(0.9, 0.3), k=8, steps=10)


def test_ranks_are_those_of_the_dense_jacobian() -> None:
    model = latentjac.load(build_shallow_unet().double(), build_scheduler())
    table = STUDIES["rank"].run(model, SETTINGS).table
    points = {point.t: point for point in followed_points(model, SETTINGS)}
    assert len(table["t"]) == len(LAYERS) * 2 * 2
    every = torch.eye(3 * 8 * 8, dtype=torch.float64).reshape(-1, 1, 3, 8, 8)
    for row in (1, 6):
        point = one_sample(points[table["t"][row]], table["sample"][row])
        lin = model.linearization(table["layer"][row], point.sample, torch.tensor(point.timestep))
        energy = torch.linalg.svdvals(lin.jvp(every).flatten(1)).square()
        held = energy.cumsum(0) / energy.sum()
        for name, part in (("loco", LOCO), ("half", HALF)):
            exact = int((held < part).sum()) + 1
            assert abs(table[name][row] - exact) <= max(2, 0.25 * exact), (name, exact, table[name][row])
        participation = float(energy.sum().square() / energy.square().sum())
        assert table["participation"][row] == pytest.approx(participation, rel=0.25)
        assert table["participation_low"][row] < table["participation"][row] < table["participation_high"][row]
        assert table["largest_s"][row] == pytest.approx(float(energy[0].sqrt()), rel=1e-2)


def made(x0: list[list[float]]) -> dict[str, list]:
    """A table with given ranks of x0, ``[samples][levels]``."""
    rows = [(layer, rank) for layer in LAYERS for at_level in zip(*x0, strict=True) for rank in at_level]
    table = {"layer": [layer for layer, _ in rows]}
    return table | {name: [rank for _, rank in rows] for name in ("loco", "half", "participation")}


def test_the_least_rank_is_found_and_its_level_is_as_wide_as_the_grid() -> None:
    table = made([[900, 100, 30, 800], [800, 110, 20, 700], [850, 40, 45, 750]])
    finding = _finding(table, [1.0, 0.8, 0.6, 0.2], samples=3, size=1000)
    assert finding.holds
    assert finding.number == pytest.approx((0.6 + 0.6 + 0.8) / 3)
    # Student's quantile of two degrees of freedom, standard error 1/15, and half of the widest step.
    assert finding.interval[0] == pytest.approx(2 / 3 - 4.30265 / 15 - 0.2, abs=1e-4)
    assert finding.interval[1] == 1.0  # t ends there
    assert "30 [" in finding.sentence  # geometric mean of 30, 20 and 45
    assert "has its lowest rank at a middle" in finding.sentence


def test_a_rank_that_only_falls_is_no_finding() -> None:
    finding = _finding(made([[900, 100, 30], [800, 110, 20]]), [0.9, 0.6, 0.1], samples=2, size=1000)
    assert not finding.holds
    assert "does not have its lowest rank" in finding.sentence
    assert finding.number == pytest.approx(0.1)
