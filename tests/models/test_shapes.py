"""Networks whose samples are rectangles."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_tiny_unet
from PIL import Image
from pipelines import build_autoencoder

import latentjac
from latentjac.diffusion import DDIM, Own
from latentjac.editing import Guidance, walk_frames
from latentjac.models import LatentCodec, PixelCodec, prepare_image, to_pil
from latentjac.report import walk_gif

SIZE = (12, 20)


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.dstack([red, green, np.zeros_like(red)]).astype(np.uint8))


@pytest.fixture
def wide() -> latentjac.Model:
    return latentjac.load(build_tiny_unet(size=SIZE).double(), build_scheduler())


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((200, 100), (16, 0, 183, 100)),
        ((100, 200), (0, 70, 100, 130)),
        ((100, 60), None),
        ((1, 500), (0, 249, 1, 250)),
        ((500, 1), (249, 0, 251, 1)),
    ],
)
def test_pictures_are_cropped_to_the_shape_of_the_model(size, box) -> None:
    prepared = prepare_image(ramp(*size), SIZE)
    assert prepared.image.size == (20, 12)
    notes = "; ".join(prepared.notes)
    assert (f"to the box {box}" in notes) if box else ("cropped" not in notes)


def test_a_picture_keeps_its_proportions_and_a_box_does_not_have_to() -> None:
    """Of a picture of twice the height the middle is taken: green runs over half of its range, red over all."""
    pixels = np.asarray(prepare_image(ramp(100, 120), SIZE).image).astype(int)
    assert np.ptp(pixels[..., 0]) > 235
    assert 100 < np.ptp(pixels[..., 1]) < 130
    pixels = np.asarray(prepare_image(ramp(100, 120), SIZE, (0, 0, 50, 120)).image).astype(int)
    assert 100 < np.ptp(pixels[..., 0]) < 130
    assert np.ptp(pixels[..., 1]) > 220


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_picture(channels: int) -> None:
    codec = PixelCodec(SIZE, channels)
    image = ramp(20, 12) if channels == 3 else ramp(20, 12).convert("L")
    array = np.asarray(image).reshape(12, 20, channels)
    tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
    expected = tensor[None].float() / 127.5 - 1
    for same in (image, array, array / 255, (array / 255)[None], tensor, tensor / 255, (tensor / 255)[None]):
        torch.testing.assert_close(codec.encode(same), expected)
    assert np.array_equal(np.asarray(to_pil(codec.decode(expected))[0]), np.asarray(image))


def test_errors_give_the_shape_of_the_model(wide) -> None:
    turned = np.zeros((20, 12, 3))
    with pytest.raises(ValueError, match=r"invert: image must be a float tensor \[B, 3, 12, 20\], got"):
        latentjac.invert(wide, turned, 2)
    with pytest.raises(ValueError, match=r"image must be a float array \[12, 20, 3\] in \[0, 1\] or .* \[20, 12\]"):
        latentjac.invert(wide, turned[..., 0], 2)
    path = latentjac.invert(wide, ramp(20, 12), 2)
    with pytest.raises(ValueError, match=r"masked_basis: mask must be bool \[12, 20\], got .* \[20, 12\]"):
        latentjac.editing.masked_basis(wide, path.at(0.6), np.zeros((20, 12), dtype=bool), 1)


@pytest.mark.parametrize("size", [(12, 20, 3), (12,), (12.0, 20), "12x20", None])
def test_sizes_that_are_none(size) -> None:
    for make in (lambda: PixelCodec(size), lambda: prepare_image(ramp(4, 4), size)):
        with pytest.raises((TypeError, ValueError), match=r"^(PixelCodec|prepare_image): size must be "):
            make()
    for channels in (0, 2, 4):
        with pytest.raises(ValueError, match="PixelCodec: channels must be"):
            PixelCodec(SIZE, channels)


def test_an_edit_under_a_mask(wide) -> None:
    assert wide.sample_shape == (3, *SIZE)
    assert wide.codec.size == SIZE
    path = latentjac.invert(wide, ramp(64, 64), 4, grid=Own(), solver=DDIM(10))
    assert path.reconstruction.shape == (1, 3, *SIZE)
    point = path.at(0.5)
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, :8] = True
    basis = latentjac.editing.masked_basis(wide, point, mask, 1, tol=1e-2)
    assert basis.v.shape == (1, 3, *SIZE)
    assert basis.u[..., 8:].abs().max() == 0
    edit = latentjac.edit(wide, point, basis.v, [2.0], method=Guidance(num_steps=1), mask=mask)
    assert edit.images[0].size == (20, 12)
    assert torch.isfinite(edit.leakage).all()
    frames = walk_frames(wide, point, edit, 0, 2)
    gif = Image.open(io.BytesIO(walk_gif(frames.images, side=24)))
    assert gif.size == (40, 24)


def test_latents_of_rectangles() -> None:
    codec = LatentCodec(build_autoencoder(), (6, 10))
    assert codec.size == SIZE
    latents = codec.encode(ramp(64, 64))
    assert latents.shape == (1, 4, 6, 10)
    assert codec.decode(latents).shape == (1, 3, *SIZE)
    assert LatentCodec(build_autoencoder(), 6).size == (12, 12)
