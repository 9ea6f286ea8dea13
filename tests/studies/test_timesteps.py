"""The tangent space of a sample turns away as timesteps part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from truth import dense_jacobian

from latentjac.geometry import subspace_distance
from latentjac.studies import STUDIES, Settings
from latentjac.studies.over_levels import OverLevels, compare_levels
from latentjac.studies.points import one_sample
from latentjac.studies.tangent_spaces import tangent_spaces
from latentjac.studies.timesteps import by_difference

TINY = Settings(samples=2, levels=(0.9, 0.6, 0.1), k=2, tol=1e-8, steps=10)


def test_levels_are_compared_as_dense_jacobians_are(tiny_model) -> None:
    spaces = tangent_spaces(tiny_model, TINY, "test")
    over = compare_levels(tiny_model, spaces, TINY)
    place, sample = one_sample(spaces.points[2], 1), 1
    dense = dense_jacobian(tiny_model.feature_map("mid"), place.sample, torch.tensor(place.timestep))
    known = spaces.bases[0][sample].v.flatten(1)
    own = torch.linalg.svdvals(dense)[: TINY.k].square().sum()
    captured = (dense @ known.T).square().sum() / own
    assert float(over.captured[sample, 0, 2]) == pytest.approx(float(captured), rel=1e-6)
    assert float(over.captured[sample, 2, 2]) == pytest.approx(1, abs=1e-6)
    # A random subspace captures the mean energy of as many directions.
    mean = TINY.k * dense.square().sum() / dense.shape[1] / own
    assert float(over.captured_by_chance[sample, 2]) == pytest.approx(float(mean), rel=0.8)
    distance = subspace_distance(spaces.bases[0][sample], spaces.bases[2][sample], "h").relative
    assert float(over.distances["h"][sample, 2, 0]) == pytest.approx(float(distance))
    rows = over.rows()
    assert len(rows) == 2 * 3 * 2
    assert rows[1]["captured"] == float(over.captured[0, 0, 2])
    assert (rows[1]["t"], rows[1]["t_other"]) == (spaces.levels[0], spaces.levels[2])


def test_pairs_of_levels_are_grouped_by_their_difference() -> None:
    table = torch.tensor([[[0.0, 1.0, 9.0], [1.0, 0.0, 3.0], [9.0, 3.0, 0.0]]], dtype=torch.float64)
    over = OverLevels([0.899, 0.499, 0.099], {}, table, table[:, 0])
    apart, means = by_difference(over, table)
    assert apart == [0.4, 0.8]
    assert means.tolist() == [[2.0, 9.0]]


def test_two_levels_are_refused(tiny_model) -> None:
    with pytest.raises(ValueError, match=r"timesteps: settings.levels must hold at least 3 levels, got \[0.9, 0.1\]"):
        STUDIES["timesteps"].run(tiny_model, replace(TINY, levels=(0.9, 0.1)))
