"""Any picture in, an RGB one of the network's size out, and what was done is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from latentjac.models import PixelCodec, prepare_image, to_pil

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str) -> None:
    grey = Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1)))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode in ("LAB", "HSV"):
        image = Image.merge(mode, [grey, grey, grey])
    else:
        image = grey.convert(mode)
    prepared = prepare_image(image, 16)
    assert (prepared.image.mode, prepared.image.size) == ("RGB", (16, 16))
    pixels = np.asarray(prepared.image).astype(float)
    assert pixels.std() > 20  # the ramp survived
    if mode in ("L", "I", "F", "I;16", "LA", "RGBA"):
        assert pixels[0, :, 0] == pytest.approx(np.asarray(prepare_image(grey, 16).image)[0, :, 0], abs=3)


def test_transparency_becomes_white() -> None:
    prepared = prepare_image(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), 8)
    assert np.asarray(prepared.image).min() == 255


def test_exif_orientation(tmp_path) -> None:
    upright = Image.new("RGB", (20, 10))
    upright.paste((255, 0, 0), (0, 0, 20, 5))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees when shown
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    prepared = prepare_image(tmp_path / "photo.jpg", 10)
    assert prepared.image.getpixel((5, 1))[0] > 200
    assert prepared.image.getpixel((5, 8))[0] < 60
    assert any("EXIF" in note for note in prepared.notes)


def test_crop_and_notes() -> None:
    image = Image.new("RGB", (100, 60))
    image.paste((0, 255, 0), (80, 0, 100, 20))
    prepared = prepare_image(image, 16, crop=(80, 0, 100, 20))
    assert np.asarray(prepared.image)[..., 1].min() == 255
    assert any("box (80, 0, 100, 20)" in note for note in prepared.notes)
    assert prepare_image(Image.new("RGB", (16, 16)), 16).notes == []


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2000, 1000)])
def test_any_size(size: tuple[int, int]) -> None:
    assert prepare_image(Image.new("L", size), 16).image.size == (16, 16)


def test_round_trip() -> None:
    codec = PixelCodec(16)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    samples = codec.encode(pixels)
    assert samples.shape == (1, 3, 16, 16)
    assert float(samples.min()) >= -1
    assert np.array_equal(np.asarray(to_pil(codec.decode(samples))[0]), pixels)


def test_kinds_of_input(tmp_path) -> None:
    codec = PixelCodec(16)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    reference = codec.encode(image)
    for same in (tmp_path / "x.png", str(tmp_path / "x.png"), np.array(image), tensor, tensor[None]):
        torch.testing.assert_close(codec.encode(same), reference)
    assert codec.encode([image, tensor]).shape == (2, 3, 16, 16)


def test_one_channel() -> None:
    codec = PixelCodec(16, channels=1)
    assert codec.encode(Image.new("RGB", (20, 20), "white")).shape == (1, 1, 16, 16)
    assert to_pil(codec.decode(torch.zeros(1, 1, 16, 16)))[0].mode == "L"


def test_colour_keys_count_as_transparency(tmp_path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "k.png", transparency=(255, 0, 0))
    assert np.asarray(prepare_image(tmp_path / "k.png", 8).image).min() == 255


def test_dark_sixteen_bit_pictures_stay_dark() -> None:
    image = Image.fromarray(np.full((8, 8), 200, np.uint16))
    assert np.asarray(prepare_image(image, 8).image).max() <= 1


def test_floats_in_the_unit_range() -> None:
    image = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    assert np.asarray(prepare_image(image, 8).image).mean() == pytest.approx(127, abs=1)


def test_animations_give_their_first_frame(tmp_path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    prepared = prepare_image(tmp_path / "a.gif", 8)
    assert prepared.image.getpixel((4, 4))[0] > 200
    assert any("first of 2 frames" in note for note in prepared.notes)


def test_empty_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="0x0"):
        prepare_image(Image.new("RGB", (0, 0)), 8)
