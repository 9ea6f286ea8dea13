"""With the photo, distance 0 is the photo, and every picture has what the way back misses of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing.known import kind, unit
from networks import rand
from PIL import Image

import latentjac
from latentjac.editing import HSpace, Linear, Method


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(60, 190, (16, 16, 3), dtype=np.uint8))


@pytest.mark.filterwarnings("ignore:invert")
@pytest.mark.parametrize("method", [Linear(num_steps=1), HSpace()], ids=kind)
def test_distance_0_is_the_photo(own_model, photo, method: Method) -> None:
    own_model.network.conv_out.weight.data.mul_(0.1)
    point = latentjac.invert(own_model, photo, 6, t=0.5).at(0.5)
    v = rand(16, 4, 4) if method.in_features else unit(3, 16, 16)
    plain = latentjac.edit(own_model, point, v, [0.0, 0.5], method=method)
    edit = latentjac.edit(own_model, point, v, [0.0, 0.5], method=method, photo=photo)
    assert np.array_equal(np.asarray(edit.images[0]), np.asarray(photo))
    assert not np.array_equal(np.asarray(plain.images[0]), np.asarray(photo))
    assert torch.equal(edit.samples, plain.samples)
    expected = own_model.codec.decode(edit.samples[0, 1:])[0] + edit.residual
    shown = torch.from_numpy(np.array(edit.images[1])).permute(2, 0, 1) / 255
    torch.testing.assert_close(shown, expected.clamp(0, 1), atol=2e-3, rtol=0)
    frames = latentjac.editing.walk_frames(own_model, point, edit, count=2)
    assert np.array_equal(np.asarray(frames.images[0]), np.asarray(photo))
    assert plain.residual is None
