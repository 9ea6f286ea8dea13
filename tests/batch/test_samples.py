"""The page of a run: sliders through the pictures that it made of its first items, and nothing computed for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from batch.instant import Draw, picture_of, small_model
from PIL import Image
from report.parsed import Page

import latentjac
from latentjac import batch
from latentjac.batch import run, samples
from latentjac.batch.parts import Result
from latentjac.batch.work import Work
from latentjac.models import Model
from latentjac.report.samples import SLIDER_UNIT

pytest.importorskip("pyarrow")
EDIT = {"method": "linear", "directions": [1, 2], "distance": [2, -1]}
SPEC = {"bases": {"t": 0.5, "k": 2}, "edits": [EDIT, {**EDIT, "distance": [1, 1], "compose": True}]}


class Edited:
    """Pictures of two directions at two distances."""

    place: ClassVar[dict[str, Any]] = {"step": "edit", "number": 1, "t": 0.5, "layer": "mid"}
    together = True

    def ready(self, work: Work) -> bool:
        return True

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        facts = {"method": "linear", "directions": [1.0, 2.0], "distance": [2.0, -1.0], "linear_up_to": [1.0, 0.5]}
        names = [f"edit1-direction{i}_{d:+g}" for i in (1, 2) for d in (2, -1)]
        return [
            Result(dict(facts), pictures=[(name, picture_of(100 + i)) for i, name in enumerate(names)]) for _ in works
        ]


class Composed(Edited):
    """One picture of two directions at once."""

    place: ClassVar[dict[str, Any]] = {**Edited.place, "number": 2}

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        facts = {"method": "linear", "directions": [1.0, 2.0], "distance": [1.0, 1.0], "linear_up_to": [1.0, 0.5]}
        return [Result(dict(facts), pictures=[("edit2-composed", picture_of(200))]) for _ in works]


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take no time: a picture of each seed, and edits of it."""
    monkeypatch.setattr(run, "tasks_of", lambda spec: [Draw(), Edited(), Composed()])


def run_of(folder: Path, model: Model, rows: Sequence[dict[str, Any]], **more: Any) -> Path:
    """The folder of a run over rows of a table."""
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch.Run({"items": str(folder / "items.jsonl"), **SPEC, **more}, folder / "run", model=model, shard="1/1").run()
    return folder / "run"


def seeds(count: int) -> list[dict[str, Any]]:
    return [{"id": f"<{i}>", "seed": i} for i in range(count)]


@pytest.mark.usefixtures("edited")
@pytest.mark.parametrize("kept", ["files", "tar"])
def test_directions_have_sliders_and_other_pictures_stand_below(
    kept: str, model: latentjac.Model, tmp_path: Path
) -> None:
    folder = run_of(tmp_path, model, seeds(2), pictures=kept)
    page = Page((folder / "index.html").read_text())
    assert page.tags.count("latentjac-scrubber") == 2
    assert page.tags.count("input") == 4
    assert "<0>" in page.text
    files = [source for source in page.sources if not source.startswith("data:")]
    assert len(files) == 2  # composed
    assert all((folder / file).is_file() for file in files)
    assert len(page.sources) == 2 + 2 * (1 + 2 * 3)  # the sample is the original, and at 0
    assert "linear up to ±0.5" in page.text
    assert "edit 1, t = 0.5" in page.text


@pytest.mark.usefixtures("edited")
def test_a_page_of_many_items_is_small(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = batch.Results.images

    def images(self: batch.Results, id: str) -> list[Image.Image]:
        opened.append(id)
        return real(self, id)

    monkeypatch.setattr(batch.Results, "images", images)
    folder = run_of(tmp_path, model, seeds(40))
    assert (folder / "index.html").stat().st_size < 200_000
    assert len(set(opened)) == samples._MOST_ITEMS
    assert Page((folder / "index.html").read_text()).tags.count("latentjac-scrubber") == samples._MOST_ITEMS


@pytest.mark.usefixtures("edited")
def test_pictures_that_were_removed_are_left_out(model: latentjac.Model, tmp_path: Path) -> None:
    folder = run_of(tmp_path, model, seeds(3))
    for picture in batch.open(folder).pictures("<1>"):
        picture.unlink()
    again = run_of(tmp_path, model, seeds(3))
    page = Page((again / "index.html").read_text())
    assert page.tags.count("latentjac-scrubber") == 2
    assert "<1>" not in page.text


def test_photos_lie_over_their_sliders_and_nothing_is_computed(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(60, 196, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    point = latentjac.invert(model, tmp_path / "photo.png", 4, t=0.5).at(0.5)
    made = latentjac.Slider.make(
        model, point, point.sample[0], change=0.01, method=latentjac.editing.Linear(num_steps=1), tolerance=0.2
    )
    sliders = [
        {"slider": str(made.save(tmp_path / "smile.safetensors")), "values": [1, -1], "residual": residual}
        for residual in (True, False)
    ]
    spec = {"items": [str(tmp_path / "photo.png")], "sliders": sliders}
    done = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    monkeypatch.setattr(model.network, "forward", lambda *a, **k: pytest.fail("computed"))
    (sample,) = samples.samples_of(done, lambda id: Image.fromarray(pixels)).live
    assert (sample.title, sample.original_title) == (str(tmp_path / "photo.png"), "photo")
    assert [strip.distances for strip in sample.strips] == [(-1.0, 0.0, 1.0), (-1.0, 1.0)]
    assert [strip.unit for strip in sample.strips] == [SLIDER_UNIT] * 2
    assert [strip.note for strip in sample.strips] == ["slider 1, t = 0.5", "slider 2, t = 0.5"]
    assert np.array_equal(np.asarray(sample.strips[0].images[1]), pixels)
    row = next(row for row in done.table().to_pylist() if row["step"] == "slider")
    assert sample.strips[0].linear_up_to == pytest.approx(min(-row["linear"][0], row["linear"][1]))
    drawn = [np.asarray(image.convert("RGB")) for image in done.images(str(tmp_path / "photo.png"))]
    assert np.array_equal(np.asarray(sample.strips[0].images[2]), drawn[0])
    assert np.array_equal(np.asarray(sample.strips[0].images[0]), drawn[1])
