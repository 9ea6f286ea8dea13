"""Pictures of an edit, as the sliders of a page go through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import rand
from PIL import Image

import latentjac
from latentjac.editing import Frames, Linear
from latentjac.report import edit_strips

BLUE = Image.new("RGB", (16, 16), (0, 0, 255))


@pytest.fixture
def directions() -> torch.Tensor:
    return rand(3, 3, 16, 16)


def test_a_strip_a_direction_by_way_of_the_unchanged_picture(
    tiny_model: latentjac.Model, tiny_point: latentjac.Point, directions: torch.Tensor
) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8] = True
    edit = latentjac.edit(tiny_model, tiny_point, directions[[0, 2]], [2.0, -1.0], method=Linear(), mask=mask)
    strips = edit_strips(edit, ["mouth", "eyes"], ["s = 3", "s = 1"], unchanged=BLUE)
    assert [strip.title for strip in strips] == ["mouth", "eyes"]
    assert [strip.note for strip in strips] == ["s = 3", "s = 1"]
    assert edit.linearity is not None
    assert edit.leakage is not None
    for row, strip in enumerate(strips):
        computed = [i for i, mixed in enumerate(strip.mixed) if not mixed]
        assert [strip.distances[i] for i in computed] == [-1.0, 0.0, 2.0]
        shown = [strip.images[i] for i in computed]
        for image, expected in zip(shown, [edit.image(row, 1), BLUE, edit.image(row, 0)], strict=True):
            assert np.array_equal(np.asarray(image), np.asarray(expected))
        assert strip.leakage is not None
        leaked = [strip.leakage[i] for i in computed]
        assert leaked == pytest.approx([float(edit.leakage[row, 1]), 0.0, float(edit.leakage[row, 0])])
        assert strip.linear_up_to == edit.linearity[row].radius
        assert len(strip.images) == 13


def test_composed_directions_are_one_strip(
    tiny_model: latentjac.Model, tiny_point: latentjac.Point, directions: torch.Tensor
) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, directions[:2], [2.0, -1.0], method=Linear(), compose=True)
    (strip,) = edit_strips(edit, unchanged=BLUE)
    assert (strip.title, strip.unit) == ("2 directions at once", "parts of the way")
    assert (strip.distances[0], strip.distances[-1]) == (0.0, 1.0)
    assert strip.images[-1] == edit.images[0]


def test_there_is_nothing_to_go_through_at_distance_0_alone(
    tiny_model: latentjac.Model, tiny_point: latentjac.Point, directions: torch.Tensor
) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, directions[0], 0.0, method=Linear())
    assert edit_strips(edit, unchanged=BLUE) == []


def test_frames_that_were_computed_take_the_place_of_mixtures(
    tiny_model: latentjac.Model, tiny_point: latentjac.Point, directions: torch.Tensor
) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, directions[0], [-1.0, 1.0], method=Linear())
    made = Frames([Image.new("RGB", (16, 16), (i, 0, 0)) for i in range(201)], tuple(i / 100 - 1 for i in range(201)))
    (strip,) = edit_strips(edit, unchanged=BLUE, frames=[made])
    assert strip.title == "direction 1"
    assert not any(strip.mixed)
    assert [image.getpixel((0, 0))[0] for image in strip.images[::8]] == [0, 67, 133, 200]  # type: ignore[index]
    assert strip.distances[::12] == pytest.approx((-1.0, 0.0, 1.0))


@pytest.mark.parametrize("argument", ["titles", "notes", "frames"])
def test_there_is_one_a_strip_or_none(
    tiny_model: latentjac.Model, tiny_point: latentjac.Point, directions: torch.Tensor, argument: str
) -> None:
    edit = latentjac.edit(tiny_model, tiny_point, directions[:2], [-1.0, 1.0], method=Linear())
    one = Frames([BLUE, BLUE], (0.0, 1.0)) if argument == "frames" else "a"
    with pytest.raises(ValueError, match=rf"^edit_strips: {argument} must be none or one a strip, 2, got 1"):
        edit_strips(edit, **{argument: [one]})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"^edit_strips: {argument}\[1\] must be "):
        edit_strips(edit, **{argument: [one, None]})  # type: ignore[arg-type, list-item]
