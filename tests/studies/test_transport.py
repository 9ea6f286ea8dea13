"""Directions carried between samples: what is compared, and the association with distances."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import rand

from latentjac.geometry import parallel_transport
from latentjac.studies import STUDIES, Settings
from latentjac.studies.tangent_spaces import tangent_spaces
from latentjac.studies.transport import association
from latentjac.studies.transport_effects import DISTANCE, WAYS, transport_effects

TINY = Settings(samples=3, levels=(0.9, 0.2), k=2, tol=1e-6, steps=10)


def test_effects_are_those_of_steps_at_source_and_target(tiny_model) -> None:
    spaces = tangent_spaces(tiny_model, TINY, "test")
    carried = transport_effects(tiny_model, spaces, 1, TINY)
    point, bases = spaces.points[1], spaces.bases[1]
    features, t = tiny_model.feature_map("mid"), torch.tensor(point.timestep)
    alpha = tiny_model.scheduler.alphas_cumprod.double()[point.timestep]
    length = DISTANCE * float((1 - alpha).sqrt())

    def effect(sample: int, v: torch.Tensor) -> torch.Tensor:
        x = point.sample[sample : sample + 1]
        return (features(x + length * v, t) - features(x, t)).flatten()

    source, target, direction = 2, 0, 1
    here = effect(source, bases[source].v[direction])
    moved = parallel_transport(bases[source].v[[direction]], bases[source], bases[target])
    assert float(carried.retained[source, target, direction]) == pytest.approx(float(moved.retained), rel=1e-6)
    for way, v in (("park2023", moved.v[0]), ("unchanged", bases[source].v[direction])):
        there = effect(target, v)
        entry = WAYS.index(way), source, target, direction
        cosine = float(torch.cosine_similarity(there, here, dim=0))
        assert float(carried.cosines[entry]) == pytest.approx(cosine, abs=1e-6)
        assert float(carried.sizes[entry]) == pytest.approx(float(there.norm() / here.norm()), rel=1e-6)
    assert (carried.cosines[WAYS.index("own")] >= 0).all()
    assert not carried.cosines[:, [0, 1, 2], [0, 1, 2]].any()


def test_the_pseudo_inverse_has_the_largest_cosine_to_first_order(tiny_model) -> None:
    """Among all directions of the target's span: the root of what is retained, by Cauchy and Schwarz."""
    source, target = tangent_spaces(tiny_model, replace(TINY, k=4), "test").bases[0][:2]
    u = source.u.flatten(1)

    def cosines(v: torch.Tensor) -> torch.Tensor:
        images = (v.flatten(1) @ target.v.flatten(1).T * target.s) @ target.u.flatten(1)
        return torch.cosine_similarity(images, u)

    paper, inverse = (parallel_transport(source, source, target, m) for m in ("park2023", "pseudoinverse"))
    torch.testing.assert_close(cosines(inverse.v).square(), inverse.retained, rtol=1e-6, atol=1e-9)
    assert (cosines(inverse.v) - cosines(paper.v)).min() > 1e-4


def test_association_is_monotone_and_pooled_over_levels() -> None:
    distances = rand(6, 6, 2).abs()
    rising = association(distances, distances.exp())
    assert float(rising.value) == pytest.approx(1, abs=1e-5)
    assert float(association(distances[..., 0], -distances[..., 0]).high) < -0.99
    unrelated = association(distances, rand(6, 6, 2, seed=2))
    assert float(unrelated.low) < 0 < float(unrelated.high)
    # Within each level nothing, between the levels all.
    levels = torch.tensor([0.0, 10.0], dtype=torch.float64)
    between = association(rand(6, 6, 2) + levels, rand(6, 6, 2, seed=3) + levels)
    assert 0.6 < float(between.value) < 0.9


def test_two_samples_are_refused(tiny_model) -> None:
    with pytest.raises(ValueError, match=r"transport: settings\.samples must be at least 3, got 2"):
        STUDIES["transport"].run(tiny_model, replace(TINY, samples=2))
