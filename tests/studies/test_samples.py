"""Tangent spaces of different samples part as noise falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from geometry.subspaces import basis_of
from networks import rand

import latentjac
from latentjac.geometry import subspace_distance
from latentjac.studies import STUDIES, Settings
from latentjac.studies.samples import sample_distances
from latentjac.studies.tangent_spaces import tangent_spaces, unrelated_distance

TINY = Settings(samples=4, levels=(0.9, 0.2), k=2, tol=1e-4, steps=10)


def test_small_study_of_faces() -> None:
    settings = Settings.small()
    finding = STUDIES["samples"].run(latentjac.load("faces"), settings)
    assert 0.3 < finding.number < 0.65
    table = finding.table
    assert list(zip(table["sample"][:3], table["other"][:3], strict=True)) == [(0, 1), (0, 2), (1, 2)]
    for space in ("x", "h"):
        means = torch.tensor(table[f"distance_{space}"]).reshape(3, 3).mean(1)
        curve = next(curve for curve in finding.curves if curve.label.startswith(space))
        assert curve.y == pytest.approx(means.tolist())
        assert means[2] - means[0] > 0.2
    assert finding.number == pytest.approx(finding.curves[0].y[-1] - finding.curves[0].y[0])
    # Three samples are too few to be sure of it, and the study names that.
    assert finding.holds == (finding.interval[0] > 0) == ("do not part" not in finding.sentence)


def test_distances_are_those_of_the_pairs(tiny_model) -> None:
    spaces = tangent_spaces(tiny_model, TINY, "test")
    for space in ("x", "h"):
        table = sample_distances(spaces)[space]
        assert table.shape == (4, 4, 2)
        one = subspace_distance(spaces.bases[1][3], spaces.bases[1][0], space).relative
        assert float(table[3, 0, 1]) == pytest.approx(float(one))
        assert float(table[0, 3, 1]) == pytest.approx(float(one))


def test_unrelated_subspaces_are_almost_orthogonal() -> None:
    bases = [basis_of(rand(3, 800), k=2)]
    in_x, in_h = (unrelated_distance(bases, space, 0) for space in ("x", "h"))
    # Cosines in 800 dimensions are near 1 / sqrt(800), so angles are near pi/2; two planes in space share a line.
    assert 0.95 < float(in_x.low) < float(in_x.value) < float(in_x.high) < 1
    assert float(in_h.high) <= 2**-0.5 + 1e-12


def test_two_samples_are_refused_before_anything_is_computed(tiny_model) -> None:
    with pytest.raises(ValueError, match=r"samples: settings\.samples must be at least 3, got 2"):
        STUDIES["samples"].run(tiny_model, replace(TINY, samples=2))
