"""Edits of several samples in one call: the same as one at a time, in fewer calls of the network."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
import torch
from editing.known import pixelwise, point_for, unit
from networks import build_scheduler, build_shallow_unet, point_at, rand, randomize

import latentjac
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Method
from latentjac.solvers import Status, decompose

METHODS = (
    Guidance(num_steps=2),
    Guidance(num_steps=2, reestimate=1),
    Linear(num_steps=2),
    Geodesic(num_steps=2, k=3),
    HSpace(),
    HSpace(asymmetric=True, inject="point"),
)
DISTANCES = ([-1.0, 2.0], [0.5], [0.0, 3.0, -0.25])


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    """A network with classes, so that conditionings differ."""
    network = randomize(build_shallow_unet(num_class_embeds=4)).double()
    return latentjac.load(network, build_scheduler())


@pytest.fixture(scope="module")
def points(model: latentjac.Model) -> list[latentjac.Point]:
    """Under classes: two with guidance, a scale each, and one without."""
    points = point_at(rand(3, *model.sample_shape), steps=4, timestep=499).split()
    guided = [
        point.with_prompt(model, class_label=label, negative_class_label=1, guidance_scale=scale)
        for point, label, scale in zip(points, (0, 2), (2.0, 3.0), strict=False)
    ]
    return [*guided, points[2].with_prompt(model, class_label=3)]


@pytest.fixture(scope="module")
def bases(model: latentjac.Model, points: list[latentjac.Point]) -> list[latentjac.LocalBasis]:
    return [latentjac.local_basis(model, point, 3, tol=1e-3) for point in points]


def inside(column: int) -> torch.Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, column : column + 3] = True
    return mask


def check_same(together: latentjac.Edit, alone: latentjac.Edit) -> None:
    for field in fields(alone):
        a, b = getattr(together, field.name), getattr(alone, field.name)
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=lambda text, name=field.name: f"{name}: {text}")
    assert together.num_steps == alone.num_steps
    assert (together.distances, together.status, together.layer) == (alone.distances, alone.status, alone.layer)
    if alone.linearity is not None:
        assert [e.radius for e in together.linearity] == pytest.approx([e.radius for e in alone.linearity], rel=1e-6)
        torch.testing.assert_close(together.along.path, alone.along.path, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.along.feature_path, alone.along.feature_path, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.along.cosine, alone.along.cosine, rtol=1e-5, atol=1e-5)
    for drawn, expected in zip(together.images, alone.images, strict=True):
        difference = torch.tensor(list(drawn.tobytes())) - torch.tensor(list(expected.tobytes()))
        assert difference.abs().max() <= 1


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_several_are_each_as_alone(method: Method, model, points, bases) -> None:
    rows = [(basis.u if method.in_features else basis.v)[: 1 + i % 2] for i, basis in enumerate(bases)]
    together = latentjac.edit(model, points, rows, list(DISTANCES), method=method)
    assert len({len(edit.samples[0]) for edit in together}) == 3
    for i, edit in enumerate(together):
        check_same(edit, latentjac.edit(model, points[i], rows[i], DISTANCES[i], method=method))


@pytest.mark.parametrize("compose", [False, True])
def test_each_has_its_mask_and_photo(compose: bool, model, points, bases) -> None:
    masks = [None, inside(1), Mask(inside(4), null_rank=2)]
    photos = [rand(8, 8, 3, seed=i).sigmoid().numpy() for i in range(3)]
    options: dict[str, Any] = {"method": Guidance(num_steps=2), "compose": compose}
    rows = [basis.v[:2] for basis in bases]
    together = latentjac.edit(model, points, rows, [-1.0, 2.0], mask=masks, photo=photos, **options)
    for i, edit in enumerate(together):
        alone = latentjac.edit(model, points[i], rows[i], [-1.0, 2.0], mask=masks[i], photo=photos[i], **options)
        check_same(edit, alone)
    assert [edit.leakage is None for edit in together] == [True, False, False]
    assert [edit.status for edit in together] == [None, Status.CONVERGED, Status.CONVERGED]


def test_what_is_given_once_is_for_all(model, points, bases) -> None:
    method = Linear(num_steps=2)
    rows = torch.stack([basis.v[:1] for basis in bases])
    each = latentjac.edit(model, points, rows, 1.0, method=method, mask=inside(2))
    one = latentjac.edit(model, points, bases[1].v[0], 1.0, method=method, mask=inside(2))
    check_same(each[1], one[1])
    assert (each[0].points - one[0].points).abs().max() > 1e-3


def test_points_of_other_levels_are_edited_beside(model, points, bases) -> None:
    other = point_at(points[1].sample, steps=4, timestep=249).with_prompt(model, class_label=1)
    pair, rows = [points[0], other], [basis.v[0] for basis in bases[:2]]
    for i, edit in enumerate(latentjac.edit(model, pair, rows, 0.5, method=Guidance(num_steps=2))):
        check_same(edit, latentjac.edit(model, pair[i], rows[i], 0.5, method=Guidance(num_steps=2)))


def counted(network: torch.nn.Module) -> list[int]:
    """Rows of every call of a network from now on."""
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_walks_that_are_done_leave_the_batch() -> None:
    """Ways of 1, 2 and 4 steps: what they ask adds up to what they ask alone, in as few calls as the longest."""
    model = pixelwise()
    points = [point_for(model, seed) for seed in range(3)]
    method, distances = Guidance(num_steps=1, diagnostics=False), [[2.0], [4.0], [8.0]]
    v = unit(3, 8, 8)
    together = counted(model.network.mid)
    edits = latentjac.edit(model, points, v, distances, method=method)
    in_batches = list(together)
    together.clear()
    calls = []
    for point, distance in zip(points, distances, strict=True):
        latentjac.edit(model, point, v, distance, method=method)
        calls.append(len(together))
        in_all = sum(together) if point is points[-1] else 0
    assert [edit.num_steps for edit in edits] == [1, 2, 4]
    assert len(in_batches) == max(calls[0], *(b - a for a, b in pairwise(calls)))
    assert sum(in_batches) == in_all


def test_one_bad_base_is_said_of_its_edit_alone(model, points, bases, monkeypatch) -> None:
    """Null spaces are found one by one: the second gets too few passes."""
    limits, calls = decompose.Limits, []

    def some(tol: float, passes: int, *rest: Any) -> Any:
        calls.append(passes)
        return limits(tol, 2 if len(calls) == 2 else passes, *rest)

    monkeypatch.setattr(decompose, "Limits", some)
    rows = [basis.v[0] for basis in bases]
    with pytest.warns(UserWarning, match="^edit: out of passes"):
        edits = latentjac.edit(model, points, rows, 0.5, method=Linear(num_steps=1), mask=inside(2))
    assert [edit.status for edit in edits] == [Status.CONVERGED, Status.OUT_OF_PASSES, Status.CONVERGED]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"directions": [unit(3, 8, 8)] * 2},
            r"^edit: directions must be one for all or 3 \(as many as points\), got 2",
        ),
        ({"distance": [[1.0], [2.0]]}, "^edit: distance must be one for all or 3"),
        ({"mask": [None]}, "^edit: mask must be one for all or 3"),
        ({"photo": ["a.png"]}, "^edit: photo must be one for all or 3"),
        ({"point": []}, "^edit: point must be a Point or several, got an empty list"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str, model, points) -> None:
    given = {"model": model, "point": points, "directions": unit(3, 8, 8), **changed}
    with pytest.raises(ValueError, match=message):
        latentjac.edit(**given)


def test_a_batch_is_refused_with_the_way_to_do_it(model, points) -> None:
    several = point_at(rand(2, *model.sample_shape))
    with pytest.raises(ValueError, match=r"point must hold one sample, got 2; point.split\(\) has one of each"):
        latentjac.edit(model, several, unit(3, 8, 8))
