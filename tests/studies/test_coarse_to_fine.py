"""Directions of the built-in model go from coarse to fine."""

from __future__ import annotations

import pytest

import latentjac
from latentjac.studies import STUDIES, Settings


def test_small_study_of_faces() -> None:
    settings = Settings.small()
    finding = STUDIES["coarse-to-fine"].run(latentjac.load("faces"), settings)
    assert finding.holds
    assert 2.0 < finding.number < 5.0
    assert finding.interval[0] > 1.5
    table = finding.table
    assert len(table["t"]) == 3 * settings.samples * settings.k
    assert max(table["residual"]) <= settings.tol
    assert sorted(set(table["t"]), reverse=True) == [0.899, 0.499, 0.099]
    at_clean = [c for c, t in zip(table["centroid"], table["t"], strict=True) if t == 0.099]
    assert finding.summary["mean"][2] == pytest.approx(sum(at_clean) / len(at_clean))
    assert f"{finding.number:.2f}" in finding.sentence
    assert "coarse to fine" in finding.sentence
