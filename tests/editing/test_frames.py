"""Pictures on the way: the same as edits of the distances between, and no step taken for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing.known import kind, linear, pixelwise, point_for, sigma_at, unit
from networks import rand

import latentjac
from latentjac.editing import Guidance, HSpace, Linear, Method, Way


def same(frames: latentjac.editing.Frames, edit: latentjac.Edit) -> None:
    """Frames are the first direction's images of an edit to the same distances, to one grey level."""
    assert frames.distances == pytest.approx(edit.distances)
    for i, image in enumerate(frames.images):
        difference = np.asarray(image).astype(int) - np.asarray(edit.image(0, i)).astype(int)
        assert abs(difference).max() <= 1


@pytest.mark.parametrize("method", [Linear(layer="mid"), Guidance(layer="mid"), HSpace(layer="mid")], ids=kind)
def test_frames_are_edits_of_the_distances_between(method: Method) -> None:
    """In a linear network every way is straight, and what lies on it is known from edits that end there."""
    model = linear()
    point, v = point_for(model), unit(3, 6, 6)
    edit = latentjac.edit(model, point, v, [2.0, -4.0, 1.0], method=method)
    frames = latentjac.editing.walk_frames(model, point, edit, count=4)
    between = latentjac.edit(model, point, v, [-4.0, -2.0, 0.0, 2.0], method=method)
    same(frames, between)


def test_each_direction_has_its_own(tiny_model, tiny_point) -> None:
    v = rand(2, 3, 16, 16)
    edit = latentjac.edit(tiny_model, tiny_point, v, [1.0, 3.0], method=Linear(num_steps=4))
    for i in range(2):
        frames = latentjac.editing.walk_frames(tiny_model, tiny_point, edit, i, count=4)
        distances = [0.0, 1.0, 2.0, 3.0]
        same(frames, latentjac.edit(tiny_model, tiny_point, v[i], distances, method=Linear(num_steps=4)))


def test_frames_take_no_steps(tiny_model, tiny_point, monkeypatch) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, unit(3, 16, 16), [-1.0, 1.0], method=Guidance(num_steps=4))
    batches, network = [], tiny_model.network.forward
    monkeypatch.setattr(tiny_model.network, "forward", lambda x, *a, **k: batches.append(len(x)) or network(x, *a, **k))
    latentjac.editing.walk_frames(tiny_model, tiny_point, edit, count=5)
    assert batches == [3] * 6  # six levels below the point; the edit has both ends
    batches.clear()
    frames = latentjac.editing.walk_frames(tiny_model, tiny_point, edit, count=2)
    assert not batches
    same(frames, edit)


def test_frames_at_given_distances(tiny_model, tiny_point) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, unit(3, 16, 16), [-4.0, 4.0], method=Linear(num_steps=4))
    given = latentjac.editing.walk_frames(tiny_model, tiny_point, edit, distances=[3.0, -4.0, 0.5])
    evenly = latentjac.editing.walk_frames(tiny_model, tiny_point, edit, count=17)
    assert given.distances == (3.0, -4.0, 0.5)
    for image, place in zip(given.images, (14, 0, 9), strict=True):
        assert abs(np.asarray(image).astype(int) - np.asarray(evenly.images[place]).astype(int)).max() <= 1
    with pytest.raises(ValueError, match=r"distances\[1\] must be a number in \[-4"):
        latentjac.editing.walk_frames(tiny_model, tiny_point, edit, distances=[0.0, -5.0])


def test_what_the_point_leads_to_is_not_computed_where_it_is_known(tiny_model, monkeypatch) -> None:
    path = latentjac.invert(tiny_model, rand(1, 3, 16, 16).sigmoid(), 6, t=0.6)
    point = path.at(0.6)
    edit = latentjac.edit(tiny_model, point, unit(3, 16, 16), [-1.0, 1.0], method=Guidance(num_steps=4))
    computed = latentjac.editing.walk_frames(tiny_model, point, edit, count=3)
    monkeypatch.setattr(tiny_model.network, "forward", None)
    given = latentjac.editing.walk_frames(tiny_model, point, edit, count=3, unmoved=path.reconstruction)
    for one, other in zip(given.images, computed.images, strict=True):
        assert abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max() <= 1


@pytest.mark.parametrize("method", [Linear(layer="mid"), HSpace(layer="mid")], ids=kind)
def test_composed_directions_are_one_way(method: Method) -> None:
    model = linear()
    point, v = point_for(model), rand(2, 3, 6, 6)
    options = {"method": method, "compose": True}
    edit = latentjac.edit(model, point, v, [2.0, -3.0], **options)
    frames = latentjac.editing.walk_frames(model, point, edit, count=3)
    assert frames.distances == (0.0, 0.5, 1.0)
    half = latentjac.edit(model, point, v, [1.0, -1.5], **options)
    assert abs(np.asarray(frames.images[1]).astype(int) - np.asarray(half.images[0]).astype(int)).max() <= 1


def test_a_way_is_straight_between_its_vertices() -> None:
    samples = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1, 1, 1)
    way = Way((0, 2, 4), samples, (1.0,))
    for fraction, value in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 3.0), (1.0, 5.0)):
        assert float(way.at(fraction)) == value


@pytest.mark.parametrize("num_steps", [3, 40])
def test_ways_are_kept_in_sixteen_parts_and_at_the_distances(num_steps: int) -> None:
    model = pixelwise()
    point, v = point_for(model), unit(3, 8, 8)
    way = latentjac.edit(model, point, v, [3.0, 0.1], method=Linear(num_steps=num_steps)).way
    expected = sorted([*(i * num_steps / 16 for i in range(17)), 0.1 * num_steps / 3])
    assert way.steps == pytest.approx(expected)
    assert len(way.steps) == len(way.samples) == 18
    for step, x in zip(way.steps, way.samples[:, 0, 0], strict=True):
        torch.testing.assert_close(x, point.sample[0] + 3.0 * step / num_steps * sigma_at(model) * v)
