"""Pictures of every kind: right and said, or refused in one form."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import latentjac
from latentjac.models import PixelCodec, open_image, prepare_image
from latentjac.models.prepare import inside_of, read_mask

RAMP = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
GREY = RAMP.astype(float)


def reread(image: Image.Image, kind: str, **options: object) -> Image.Image:
    """A picture as it comes back from a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


def shown(image: object, crop: tuple | None = None) -> tuple[np.ndarray, str]:
    """The prepared pixels, and all notes."""
    prepared = prepare_image(image, 16, crop)
    return np.asarray(prepared.image).astype(int), "; ".join(prepared.notes)


def floats(values: object) -> Image.Image:
    return Image.fromarray(np.asarray(values, dtype=np.float32))


# Numbers of more than 8 bits.


@pytest.mark.parametrize(("value", "message"), [(np.nan, "1 NaN and 0 Inf"), (np.inf, "0 NaN and 1 Inf")])
def test_what_is_no_number_is_named_with_its_place(value, message, tiny_model, tmp_path) -> None:
    values = np.full((16, 16), 0.5)
    values[3, 5] = value
    floats(values).save(tmp_path / "x.tiff")
    for image in (floats(values), tmp_path / "x.tiff"):
        with pytest.raises(ValueError, match=f"prepare_image: image must be finite, got {message}.* row 3, column 5"):
            prepare_image(image, 16)
        with pytest.raises(ValueError, match=f"invert: image must be finite, got {message}"):
            latentjac.invert(tiny_model, image, 2)
    array = np.repeat(values[..., None], 3, 2)
    for image in (array, torch.tensor(array).movedim(-1, 0)):
        with pytest.raises(ValueError, match=r"invert: image must have values in \[0, 1\], got 3 NaN or Inf"):
            latentjac.invert(tiny_model, image, 2)


@pytest.mark.parametrize(
    ("mode", "values", "expected", "note"),
    [
        ("F", RAMP / 255, RAMP, "0 to 0.941176, on the scale from 0 (black) to 1 (white)"),
        ("F", RAMP.astype(float), RAMP, "0 to 240, on the scale from 0 (black) to 255 (white)"),
        ("F", RAMP / 120 - 1, GREY * 255 / 240, "-1 to 1, on the scale from -1 (black) to 1 (white)"),
        ("F", RAMP - 500.0, GREY * 255 / 240, "-500 to -260, on the scale from -500 (black) to -260 (white)"),
        ("F", RAMP * 1e30, GREY * 255 / 240, "on the scale from 0 (black) to 2.4e+32 (white)"),
        ("F", RAMP / 200, np.minimum(RAMP / 200, 1) * 255, "(white), with 48 above it clipped"),
        ("F", RAMP * 257.0, RAMP, "(black) to 65535 (white)"),
        ("I", RAMP, RAMP, "0 to 240, on the scale from 0 (black) to 255 (white)"),
        ("I", RAMP.astype(int) * 257, RAMP, "(black) to 65535 (white)"),
        ("I", RAMP.astype(int) - 9999, GREY * 255 / 240, "-9999 to -9759, on the scale from -9999 (black)"),
        ("I", RAMP.astype(int) * 10**6, GREY * 255 / 240, "to 2.4e+08 (white)"),
        ("I;16", RAMP.astype(int) * 257, RAMP, "0 to 61680, on the scale from 0 (black) to 65535 (white)"),
        ("I;16", RAMP.astype(int) * 17, GREY * 17 / 4095 * 255, "0 to 4080, on the scale from 0 (black) to 4095"),
        ("I;16", RAMP.astype(int) * 4, GREY * 4 / 1023 * 255, "0 to 960, on the scale from 0 (black) to 1023 (white)"),
    ],
)
def test_numbers_are_scaled_and_the_scale_is_said(mode, values, expected, note) -> None:
    dtype = {"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]
    pixels, notes = shown(Image.fromarray(np.asarray(values).astype(dtype)))
    assert np.abs(pixels - np.asarray(expected)[..., None]).max() <= 1
    assert note in notes


def test_one_value_out_of_range_has_no_scale() -> None:
    with pytest.raises(ValueError, match=r"must have values in \[0, 65535\] or different ones, got -3 everywhere"):
        prepare_image(floats(np.full((8, 8), -3)), 8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_files(kind) -> None:
    pixels, notes = shown(reread(Image.fromarray(RAMP.astype(np.uint16) * 16), kind))
    assert np.abs(pixels[..., 0] - RAMP).max() <= 1
    assert "to 4095 (white)" in notes


def test_invert_takes_pictures_of_numbers(tiny_model) -> None:
    grey = latentjac.invert(tiny_model, Image.fromarray(RAMP), 2).samples[0]
    for image in (
        floats(RAMP / 255),
        Image.fromarray(RAMP.astype(np.int32)),
        Image.fromarray(RAMP.astype(np.uint16) * 257),
    ):
        torch.testing.assert_close(latentjac.invert(tiny_model, image, 2).samples[0], grey, atol=0.01, rtol=0)


# Transparency.


def key(mode: str) -> Image.Image:
    """A ramp, one colour of which is declared transparent."""
    grey = Image.fromarray(RAMP)
    if mode == "I;16":
        return reread(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG", transparency=32 * 257)
    value = {"L": 32, "RGB": (32, 32, 32), "P": 32}[mode]
    image = grey if mode == "L" else Image.merge("RGB", [grey] * 3)
    if mode == "P":
        image = Image.fromarray(RAMP)
        image = image.convert("P")
        image.putpalette([level for level in range(256) for _ in range(3)])
    return reread(image, "PNG", transparency=value)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_a_colour_declared_transparent_is_laid_over_white_and_said(mode) -> None:
    pixels, notes = shown(key(mode))
    expected = np.where(RAMP == 32, 255, RAMP)
    assert np.abs(pixels - expected[..., None]).max() <= 1
    assert "laid its transparent parts over white" in notes


def test_alpha_is_laid_over_white_in_every_mode() -> None:
    rgba = np.dstack([np.zeros((16, 16, 3), np.uint8), RAMP])
    straight = Image.fromarray(rgba)
    for image in (straight, straight.convert("LA"), straight.convert("RGBa"), straight.convert("LA").convert("La")):
        pixels, notes = shown(image)
        assert np.abs(pixels - (255 - RAMP[..., None].astype(int))).max() <= 2, image.mode
        assert "transparent parts" in notes


def test_opaque_alpha_is_no_transparency() -> None:
    pixels, notes = shown(Image.fromarray(RAMP).convert("RGBA"))
    assert np.array_equal(pixels[..., 0], RAMP)
    assert notes == "converted from mode RGBA to RGB"


# Colours.


def adobe() -> bytes:
    """A profile whose green is greener, as Adobe RGB's is: sRGB's with channels swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = (bytes(profile[tags[t] + 4 : tags[t] + 12]) for t in (b"rXYZ", b"gXYZ"))
    profile[tags[b"rXYZ"] + 4 : tags[b"rXYZ"] + 12], profile[tags[b"gXYZ"] + 4 : tags[b"gXYZ"] + 12] = green, red
    return bytes(profile)


def test_colour_profiles_are_converted_and_said() -> None:
    red = Image.new("RGB", (16, 16), (200, 0, 0))
    pixels, notes = shown(reread(red, "PNG", icc_profile=adobe()))
    assert pixels[0, 0, 1] > 150 > 100 > pixels[0, 0, 0]  # what it calls red is sRGB's green
    assert "converted from its colour profile" in notes
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (red, Image.fromarray(RAMP)):
        pixels, notes = shown(reread(image, "PNG", icc_profile=srgb))
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
        assert "profile" not in notes


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_profiles_that_do_not_fit_are_ignored_and_said(mode) -> None:
    image = Image.fromarray(RAMP).convert(mode)
    image.info["icc_profile"] = b"no profile" if mode == "RGB" else adobe()
    pixels, notes = shown(image)
    assert np.abs(pixels[..., 0] - RAMP).max() <= 1
    assert "ignored its colour profile" in notes


def test_gamma_of_a_file_is_converted_and_said() -> None:
    linear = Image.fromarray(np.round((RAMP / 255.0) ** 2.2 * 255).astype(np.uint8)).convert("RGB")
    linear.info["gamma"] = 1.0
    pixels, notes = shown(linear)
    assert np.abs(pixels[:, 4:, 0] - RAMP[:, 4:]).max() <= 3
    assert "converted from gamma 1" in notes
    linear.info["gamma"] = 0.45455
    assert "gamma" not in shown(linear)[1]


# Files.


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_taken_and_said(kind, tmp_path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x", kind, save_all=True, append_images=frames[1:])
    pixels, notes = shown(tmp_path / "x")
    assert pixels[8, 8, 0] > 200 > 50 > pixels[8, 8, 2]
    assert "took the first of 2 frames" in notes


def test_the_frame_that_was_chosen_is_taken_and_said(tmp_path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "x.gif") as image:
        image.seek(1)
        pixels, notes = shown(image)
    assert pixels[8, 8, 2] > 200
    assert "took frame 2 of 2" in notes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation(kind, tmp_path) -> None:
    upright = Image.new("RGB", (20, 10))
    upright.paste((255, 0, 0), (0, 0, 20, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x", kind, exif=exif)
    pixels, notes = shown(tmp_path / "x", (0, 0, 20, 10))
    assert pixels[1, 8, 0] > 200 > 60 > pixels[14, 8, 0]
    assert "turned upright" in notes


@pytest.mark.parametrize("orientation", [0, 1, 9, 77])
def test_orientations_that_turn_nothing_are_not_said(orientation) -> None:
    image = Image.fromarray(RAMP).convert("RGB")
    image.getexif()[0x0112] = orientation
    pixels, notes = shown(image)
    assert np.array_equal(pixels[..., 0], RAMP)
    assert notes == ""


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    image = Image.fromarray(RAMP).convert("RGB")
    image.info["exif"] = b"Exif\0\0 nonsense"
    assert np.array_equal(shown(image)[0][..., 0], RAMP)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_files_that_end_early(kind, part, tmp_path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    content = buffer.getvalue()
    (tmp_path / "x").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"^prepare_image: image must be a (picture file|whole picture), got '.*x'"):
        prepare_image(tmp_path / "x", 16)


@pytest.mark.parametrize("seed", range(4))
def test_files_with_wrong_bytes_are_read_or_refused(seed, tmp_path) -> None:
    random = np.random.default_rng(seed)
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(RAMP).convert("RGB").save(buffer, kind)
        content = bytearray(buffer.getvalue())
        for place in random.integers(0, min(200, len(content)), 6):
            content[place] = random.integers(0, 256)
        (tmp_path / "x").write_bytes(content)
        try:
            assert prepare_image(tmp_path / "x", 16).image.size == (16, 16)
        except ValueError as error:
            assert str(error).startswith("prepare_image: image must ")  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "which is empty"),
        (b"text", "whose format Pillow does not know"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIF picture: Pillow needs the plugin pillow-heif"),
    ],
)
def test_what_is_no_picture_is_named(content, message, tmp_path) -> None:
    (tmp_path / "x.heic").write_bytes(content)
    for read in (open_image, lambda path: prepare_image(path, 8)):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "x.heic")


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (".", ValueError, "which is a folder"),
        ("/dev/null", ValueError, "which is no regular file"),
        ("missing", FileNotFoundError, "which does not exist"),
        ("a\0b", FileNotFoundError, "which does not exist"),
        ("x" * 5000, ValueError, "File name too long"),
        ("\udcff.png", FileNotFoundError, "which does not exist"),
    ],
)
def test_paths_that_lead_to_no_file(path, kind, message) -> None:
    with pytest.raises(kind, match=message) as caught:
        prepare_image(path, 8)
    assert str(caught.value).startswith("prepare_image: image must be a picture file, got ")
    with pytest.raises(TypeError, match="open_image: path must be a path, got int"):
        open_image(5)


def huge_png(path: Path, width: int, height: int) -> Path:
    """A black picture of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_pillows_limit_is_the_users_and_ours_is_another(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare_image(huge_png(tmp_path / "x.png", 64, 32), 16).image.size == (16, 16)
    assert Image.MAX_IMAGE_PIXELS == 50
    monkeypatch.setattr("latentjac.models.picture_files._MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="which has 2048 pixels: more than 1000"):
        prepare_image(tmp_path / "x.png", 16)


def test_bombs_are_refused_before_their_pixels_are_read(tmp_path, monkeypatch) -> None:
    path = huge_png(tmp_path / "x.png", 30000, 8)
    content = path.read_bytes().replace(struct.pack(">II", 30000, 8), struct.pack(">II", 30000, 30000))
    head = content[12:29]
    path.write_bytes(content[:29] + struct.pack(">I", zlib.crc32(head)) + content[33:])
    with pytest.raises(ValueError, match="which has 900000000 pixels: more than 600000000"):
        prepare_image(path, 16)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_any_aspect(size) -> None:
    pixels, notes = shown(Image.new("RGB", size, (10, 20, 30)))
    assert (pixels == (10, 20, 30)).all()
    assert (size == (1, 1)) != ("cropped from" in notes)


def test_closed_pictures_are_refused(tmp_path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    image = Image.open(tmp_path / "x.png")
    image.close()
    with pytest.raises(ValueError, match=r"image must be a whole picture, got '.*x\.png'"):
        prepare_image(image, 8)


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        (True, TypeError, "got bool"),
        (0, ValueError, "got 0"),
        (2.0, TypeError, "float"),
        (10**9, ValueError, "most"),
    ],
)
def test_sizes(size, kind, message) -> None:
    with pytest.raises(kind, match=f"prepare_image: size must be .*{message}"):
        prepare_image(Image.new("L", (4, 4)), size)


@pytest.mark.parametrize("crop", [(0, 0, 4), (0, 0, 4.0, 4), (0, 0, True, True), "0123", (3, 0, 3, 4), (0, 0, 5, 4)])
def test_boxes(crop) -> None:
    with pytest.raises(ValueError, match="prepare_image: crop must be "):
        prepare_image(Image.new("L", (4, 4)), 4, crop)


# Arrays and tensors.

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: p,
        lambda p: np.asfortranarray(p),
        lambda p: p[::-1][::-1],
        lambda p: np.repeat(p, 2, 1)[:, ::2],
        lambda p: np.frombuffer(p.tobytes(), np.uint8).reshape(p.shape),  # read-only
        lambda p: np.dstack([p, np.full((16, 16), 255, np.uint8)]),
        lambda p: (p / 255).astype(np.float16),
        lambda p: (p / 255).astype(np.float32)[::-1][::-1],
        lambda p: (p / 255).astype(">f8"),
        lambda p: (p / 255)[None],
        lambda p: torch.tensor(p).movedim(-1, 0),
        lambda p: torch.tensor(p / 255).movedim(-1, 0).requires_grad_(),
        lambda p: torch.tensor(p / 255).movedim(-1, 0)[None].bfloat16(),
        lambda p: torch.tensor(p / 255).movedim(-1, 0).half(),
    ],
)
def test_arrays_and_tensors(make) -> None:
    codec = PixelCodec(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = codec.encode(make(PIXELS))
    torch.testing.assert_close(found, codec.encode(Image.fromarray(PIXELS)), atol=0.01, rtol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("make", [lambda g: g, lambda g: g[..., None], lambda g: g.astype(np.uint16) * 257])
def test_grey_arrays(make) -> None:
    torch.testing.assert_close(PixelCodec(16).encode(make(RAMP)), PixelCodec(16).encode(Image.fromarray(RAMP)))
    assert set(PixelCodec(16).encode(RAMP > 100).unique().tolist()) == {-1.0, 1.0}
    assert PixelCodec(16, channels=1).encode(make(RAMP)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    "image",
    [
        PIXELS.transpose(2, 0, 1), PIXELS.astype(np.int64), PIXELS.astype(complex), PIXELS.astype(object),
        PIXELS[None], PIXELS[..., :2], np.zeros((16, 16)), np.zeros((16, 16, 3)) + 2, np.zeros((8, 8, 3)),
        np.zeros((0, 16, 16, 3)), np.full((16, 16, 3), 1e300), np.array("photo.png"), np.zeros((0, 4), np.uint8),
        torch.zeros(3, 16, 16, dtype=torch.int64), torch.zeros(3, 16, 16, dtype=torch.complex64),
        torch.zeros(0, 3, 16, 16), torch.zeros(16, 16, 3), torch.zeros(3, 16, 16, device="meta"),
        torch.zeros(3, 16, 16).to_sparse(), torch.full((3, 16, 16), -0.1), torch.tensor(1.0),
        torch.full((3, 16, 16), 2.0).to(torch.float8_e4m3fn),
    ],
    ids=lambda image: f"{image.dtype} {list(image.shape)}",
)  # fmt: skip
def test_arrays_and_tensors_that_are_refused(image, tiny_model) -> None:
    with pytest.raises(ValueError, match=r"^invert: image must "):
        latentjac.invert(tiny_model, image, 2)


def test_what_is_done_to_pictures_of_invert_is_logged(tiny_model, caplog) -> None:
    with caplog.at_level("INFO", logger="latentjac"):
        latentjac.invert(tiny_model, Image.new("RGBA", (20, 16)), 2)
    assert "invert: image: laid its transparent parts over white" in caplog.text


# Masks.


def half(mode: str) -> Image.Image:
    """White on the left."""
    image = Image.new("L", (16, 16))
    image.paste(255, (0, 0, 8, 16))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "F":
        return floats(np.asarray(image) / 255)
    if mode == "drawn":  # white strokes on a transparent layer
        return Image.merge("RGBA", [Image.new("L", (16, 16), 255)] * 3 + [image])
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "I;16", "F", "drawn"])
def test_masks_of_every_mode(mode, tiny_model, tiny_point) -> None:
    mask = read_mask(half(mode), "mask")
    assert np.array_equal(inside_of(mask.image), np.arange(16)[None] < np.full((16, 1), 8))
    assert any("transparent" in note for note in mask.notes) == (mode == "drawn")
    with pytest.raises(ValueError, match=r"masked_basis: k must be at most .*384 values inside the mask|k must be"):
        latentjac.editing.masked_basis(tiny_model, tiny_point, half(mode), k=385)


def test_soft_masks_are_cut_at_half_and_that_is_said() -> None:
    mask = read_mask(Image.fromarray(RAMP), "mask")
    assert np.array_equal(inside_of(mask.image), RAMP > 127)
    assert "94% of it is neither black nor white: what is brighter than half counts as inside" in mask.notes
    assert read_mask(half("L"), "mask").notes == []


@pytest.mark.parametrize(("colour", "message"), [(0, "none of it"), (255, "all of it")])
def test_masks_of_all_or_nothing_are_refused(colour, message, tiny_model, tiny_point) -> None:
    with pytest.raises(ValueError, match=f"mask must mark a part of the picture, got {message}"):
        latentjac.editing.masked_basis(tiny_model, tiny_point, Image.new("L", (16, 16), colour), k=1)


@pytest.mark.parametrize("make", [lambda m: m[::-1], lambda m: np.asfortranarray(m), lambda m: m])
def test_mask_arrays_of_any_layout(make, tiny_model, tiny_point) -> None:
    mask = make(inside_of(half("L")))
    mask.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(ValueError, match="k must be"):
            latentjac.editing.masked_basis(tiny_model, tiny_point, mask, k=385)
