"""Figures and tables of findings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from latentjac.report import finding_figure, write_parquet
from latentjac.studies import Axes, Curve, Finding, Heat

LINE = Curve("line", Axes("t", "y", falling=True), (0.9, 0.1), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5))
FINDING = Finding("name", {"a": [1]}, (LINE,), "A sentence.", 1.0, (0.0, 2.0), True)


def ink(image) -> int:
    """Number of pixels in the colour of the first curve."""
    return int((np.abs(np.asarray(image).astype(int) - [0x00, 0x72, 0xB2]) < 12).all(-1).sum())


def test_a_panel_for_each_pair_of_axes() -> None:
    pytest.importorskip("matplotlib")
    one = finding_figure(FINDING)
    same = finding_figure(replace(FINDING, curves=(LINE, replace(LINE, label="other", y=(2.0, 1.0)))))
    points = Curve("points", Axes("x", "y", x_log=True, y_log=True), (1.0, 10.0), (1.0, 100.0))
    four = finding_figure(replace(FINDING, curves=(LINE, points, *(replace(LINE, axes=Axes("t", y)) for y in "ab"))))
    assert same.size == one.size
    assert four.width == 2 * one.width
    assert four.height > 1.5 * one.height
    assert ink(one) > 300
    assert ink(four) > 2 * ink(one)  # two lines more, and points


def test_the_axis_falls_from_noise_to_image() -> None:
    """A curve that is high where t is small ends at the upper right."""
    pytest.importorskip("matplotlib")
    rows, across = (np.abs(np.asarray(finding_figure(FINDING)).astype(int) - [0x00, 0x72, 0xB2]) < 12).all(-1).nonzero()
    assert np.corrcoef(rows, across)[0, 1] < -0.9


def test_a_map_has_a_panel_of_its_own_and_its_numbers() -> None:
    pytest.importorskip("matplotlib")
    low, high = ((value,) * 3 for value in (0.0, 1.0))
    heat = Heat(Axes("t", "other t", "distance"), (0.9, 0.5, 0.1), (0.9, 0.1), (high, low))
    one = finding_figure(FINDING)
    figure = finding_figure(replace(FINDING, heats=(heat,)))
    assert figure.width == 2 * one.width
    pixels = np.asarray(figure)[:, one.width :].astype(int)
    yellow, blue = (
        (np.abs(pixels - color) < 12).all(-1).nonzero()[0] for color in ([0xFD, 0xE7, 0x37], [0, 0x22, 0x4D])
    )
    # cividis from 0 to 1: the first row, of ones, is above the second.
    assert min(len(yellow), len(blue)) > 0.1 * pixels.shape[0] * pixels.shape[1]
    assert np.median(yellow) < np.median(blue)


def test_a_finding_without_curves_is_refused() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="at least one curve, got none"):
        finding_figure(replace(FINDING, curves=()))


def test_parquet_keeps_types_and_values(tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"sample": [0, 1], "t": [0.9, math.pi], "layer": ["mid", "x0"], "above": [True, False]}
    write_parquet(tmp_path / "table.parquet", columns)
    assert parquet.read_table(tmp_path / "table.parquet").to_pydict() == columns
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]
