"""The page of a run: parsed as a browser would, every link followed, everything escaped."""

from __future__ import annotations

import pytest
from report.parsed import Page

from latentjac.report import run_page

NASTY = "<b>&\"'é #%?.png"

EDIT = {
    "method": "geodesic",
    "unit": "noise standard deviations",
    "directions": [2, 5],
    "distances": [-1.0, 3.0],
    "num_steps": 2,
    "linear_up_to": [0.8, 1.6],
    "path": [[1.0, 3.0], [1.0, 3.0]],
    "feature_path": [[11.0, 12.0], [13.0, 14.0]],
    "norm_ratio": [[[1.0, 1.0], [1.0, 1.0]]],
    "cosine": [[[0.91, 0.92], [0.93, 0.94]], [[0.81, 0.99], [0.99, 0.84]]],
    "retained": [[[0.9, 0.8], [0.7, 0.6]], [[0.5, 0.9], [0.9, 0.9]]],
    "leakage": [[0.25, 0.5], [0.125, 0.75]],
}
RECORD = {
    "command": "edit",
    "command_line": f"latentjac edit '{NASTY}'",
    "arguments": {"photo": NASTY, "k": 3, "mask": None},
    "versions": {"torch": "2.x"},
    "seconds": {"editing": 1.25, "total": 1.25},
    "model": {"name": "<faces>", "sample_shape": [3, 64, 64]},
    "photo": {"file": NASTY, "notes": ["cropped <to> the box"]},
    "psnr_db": 41.23,
    "basis": {
        "layer": "mid",
        "timestep": 699,
        "status": "converged",
        "singular_values": [39.341, 0.5],
        "residuals": [1.84e-7, 0.25],
        "jvps": 7,
        "vjps": 6,
    },
    "edit": EDIT,
    "device": "cpu",
}


def test_the_numbers_of_a_run_are_in_its_tables() -> None:
    page = Page(run_page(RECORD, [("run.json", "record")]))
    assert ["1", "39.34", "1.8e-07"] in page.rows
    assert ["2", "0.5", "0.25"] in page.rows
    measures = ["linear up to", "path", "feature path", "least cosine", "least retained", "leakage"]
    assert ["direction", "distance", *measures] in page.rows
    assert ["2", "-1", "0.8", "1", "11", "0.81", "0.5", "0.25"] in page.rows
    assert ["5", "3", "1.6", "3", "14", "0.84", "0.6", "0.75"] in page.rows
    assert ["torch", "2.x"] in page.rows
    assert ["editing", "1.25 s"] in page.rows
    assert ["mask", "none"] in page.rows
    assert ["device", "cpu"] in page.rows
    for text in ("41.2 dB", "converged", "7 products with J and 6 with its transpose", "cropped <to> the box"):
        assert text in page.text


def test_a_composed_walk_is_one_row() -> None:
    one = {name: [[5.0]] for name in ("path", "feature_path", "leakage")} | {"cosine": [[[0.5]]]}
    page = Page(run_page({"edit": {**EDIT, **one, "retained": [[[0.9], [0.8]]]}}, []))
    assert ["2, 5", "-1, 3", "0.8, 1.6", "5", "5", "0.5", "5"] in page.rows


def test_everything_is_escaped_and_links_are_relative() -> None:
    files = [(NASTY, f"a picture of {NASTY}"), ("a folder/b.json", "data")]
    text = run_page({**RECORD, NASTY: {NASTY: NASTY}}, files)
    page = Page(text)
    assert "<b>" not in text
    assert "b" not in page.tags
    assert page.sources == [NASTY]
    assert page.links == [NASTY, NASTY, "a folder/b.json"]
    assert page.text.count(NASTY) >= 7  # title lines, caption, command, arguments, unknown section, files
    assert "script" not in page.tags
    assert "http" not in text


def test_unknown_parts_of_a_record_become_tables() -> None:
    page = Page(run_page({"command": "study", "study": {"photos": 12, "spread": [0.00012, None]}}, []))
    assert ["photos", "12"] in page.rows
    assert ["spread", "[1.2e-04, none]"] in page.rows
    assert "Study" in page.text


def test_a_finding_is_told_at_the_top() -> None:
    page = Page(run_page({"finding": {"question": "Does it?", "sentence": "It does."}}, []))
    assert page.text.index("Does it?") < page.text.index("It does.") < page.text.index("Repeat it")


def test_the_sheet_comes_first() -> None:
    names = ["spectrum.png", "basis.safetensors", "sheet.png", "walk.gif"]
    page = Page(run_page({}, [(name, name) for name in names]))
    assert page.sources == ["sheet.png", "spectrum.png", "walk.gif"]
    assert page.links[3:] == names


@pytest.mark.parametrize(("value", "shown"), [(float("inf"), "inf"), (0.0, "0"), (1234567.0, "1.235e+06")])
def test_numbers(value: float, shown: str) -> None:
    page = Page(run_page({"psnr_db": 1.0, "thing": value}, []))
    assert ["thing", shown] in page.rows


def test_names_that_are_not_utf8_stand_with_backslashes() -> None:
    name = "caf\udce9.png"  # how Python holds the bytes b"caf\xe9.png"
    text = run_page({"photo": {"file": name}, "command_line": name, "arguments": {"photo": name}}, [(name, name)])
    assert "caf\\udce9.png" in text.encode().decode()
    assert 'src="caf%E9.png"' in text  # the bytes of the file
