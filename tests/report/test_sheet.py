"""Sheets hold what they are given where it belongs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from latentjac.report import Row, contact_sheet, direction_image, spectrum_plot, write_json, write_png
from latentjac.solvers import LocalBasis, Status


def test_pictures_and_labels_are_drawn() -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    rows = [Row("first", "s = 2", [red, None, blue], ["-1", "", "+1"]), Row("second", "", [blue])]
    sheet = np.asarray(contact_sheet(rows, heading="A heading", columns=["a", "b", "c"], cell=32)).astype(int)
    assert ((sheet == [255, 0, 0]).all(-1)).sum() == 32 * 32
    assert ((sheet == [0, 0, 255]).all(-1)).sum() == 2 * 32 * 32
    assert (sheet[:30] < 128).all(-1).sum() > 50  # the heading's ink


def test_shapes_are_kept() -> None:
    wide, tall = Image.new("RGB", (16, 8), (255, 0, 0)), Image.new("RGB", (4, 8), (0, 0, 255))
    alone = np.asarray(contact_sheet([Row("", "", [wide, wide])], cell=32)).astype(int)
    assert ((alone == [255, 0, 0]).all(-1)).sum() == 2 * 32 * 16
    assert alone.shape[0] == 16 + 3 * 8  # no room for what is not there
    sheet = np.asarray(contact_sheet([Row("", "", [wide, tall], thumbnail=tall)], cell=32)).astype(int)
    assert ((sheet == [255, 0, 0]).all(-1)).sum() == 32 * 16
    assert ((sheet == [0, 0, 255]).all(-1)).sum() == 16 * 32 + 8 * 16


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])


def test_long_labels_are_not_cut() -> None:
    image = Image.new("RGB", (8, 8))
    short = contact_sheet([Row("a", "", [image])], cell=32)
    long = contact_sheet([Row("a much longer label than that", "", [image])], cell=32)
    assert long.width > short.width + 100


def test_the_direction_of_a_video_is_its_middle_frame() -> None:
    v = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(direction_image(v), direction_image(v[:, 2]))
    with pytest.raises(ValueError, match=r"must have shape \[C, H, W\] or \[C, F, H, W\], got \[3, 4\]"):
        direction_image(v[:, :, 0, 0])


def test_direction_image_centres_on_grey() -> None:
    v = torch.zeros(3, 8, 8)
    v[:, 2, 2], v[:, 5, 5] = 1.0, -1.0
    pixels = np.asarray(direction_image(v)).astype(int)
    assert abs(pixels[0, 0, 0] - 128) <= 1
    assert pixels[2, 2, 0] > 250
    assert pixels[5, 5, 0] < 5


def test_a_thumbnail_moves_all_pictures_aside() -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    with_one = [Row("first", "", [red]), Row("second", "", [red], thumbnail=blue)]
    plain, aside = (
        np.asarray(contact_sheet(rows, cell=32)).astype(int) for rows in ([Row("second", "", [red])] * 2, with_one)
    )
    assert ((aside == [0, 0, 255]).all(-1)).sum() == 16 * 16
    columns = [np.flatnonzero((sheet == [255, 0, 0]).all(-1).any(0)) for sheet in (plain, aside)]
    assert len(columns[0]) == len(columns[1]) == 32  # both rows still stand below each other
    assert columns[1][0] - columns[0][0] == 16 + 2 * 8
    blue_columns = np.flatnonzero((aside == [0, 0, 255]).all(-1).any(0))
    assert blue_columns[-1] < columns[1][0]


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3), (16, 3)])
def test_any_number_of_channels_is_shown(channels: int, shown: int) -> None:
    """One pattern, spread over the channels: the picture has it, and the way back is its negative."""
    pattern = torch.linspace(-1, 1, 64).view(8, 8)
    v = pattern * torch.linspace(0.2, 1.0, channels).view(-1, 1, 1)
    pixels = np.asarray(direction_image(v)).astype(float).reshape(8, 8, -1)
    assert pixels.shape[2] == shown
    strongest = pixels[..., 0] if channels > 3 else pixels[..., -1]
    assert np.corrcoef(strongest.ravel(), pattern.numpy().ravel())[0, 1] > 0.99
    back = np.asarray(direction_image(-v)).astype(float).reshape(8, 8, -1)
    np.testing.assert_allclose(pixels + back, 255, atol=1)


def test_spectrum_plot_is_a_picture() -> None:
    pytest.importorskip("matplotlib")
    s = torch.tensor([3.0, 2.0, 1.0])
    basis = LocalBasis(
        s, torch.eye(3), torch.eye(3), torch.tensor([1e-5, 1e-4, 1e-3]), Status.CONVERGED, 3, 3, 0.1, {"tol": 1e-3}
    )
    image = spectrum_plot(basis, "title")
    assert image.size == (768, 576)
    assert np.asarray(image).std() > 10


def test_files_are_whole_or_absent(tmp_path, monkeypatch) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}

    def broken(self, *args, **kwargs) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", broken)
    with pytest.raises(OSError, match="no space"):
        write_png(tmp_path / "b.png", Image.new("RGB", (4, 4)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
