"""Tangent spaces of different samples part as noise falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
from geometry.subspaces import basis_of
from networks import rand

from latentjac.geometry import subspace_distance
from latentjac.studies import STUDIES, Settings
from latentjac.studies.samples import sample_distances
from latentjac.studies.tangent_spaces import tangent_spaces, unrelated_distance

TINY = Settings(samples=4, levels=(0.9, 0.2), k=2, tol=1e-4, steps=10)


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
