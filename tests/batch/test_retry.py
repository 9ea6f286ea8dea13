"""Items that failed: done again on request, counted by kind of error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from batch.instant import Failing, basis_of, check_whole, instant_tasks, items_of, small_model, start
from cli.commands import run as command
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import parts, run
from latentjac.batch.results import _kinds

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Seeds that fail beside seed 1, which always does; steps take no time, parts have two items."""
    seeds: set[int] = set()

    def before(seed: int) -> None:
        if seed in seeds:
            raise ValueError(f"edit: seed must be another one, got {seed}")

    monkeypatch.setattr(Failing, "before", staticmethod(before))
    monkeypatch.setattr(run, "tasks_of", instant_tasks)
    monkeypatch.setattr(parts, "MOST_ITEMS", 2)
    return seeds


def test_failed_items_are_done_again_on_request(model: latentjac.Model, tmp_path: Path, failing: set[int]) -> None:
    failing |= {3, 5}
    items, folder = items_of(tmp_path, 7), tmp_path / "run"
    first = start(items, folder, model).run()
    assert (first.status().with_errors, first.status().retried) == (3, 0)
    failing -= {3}
    assert start(items, folder, model).plan().left == 0
    again = start(items, folder, model, retry_failed=True)
    assert again.plan().left == 3
    second = again.run()
    assert (second.status().with_errors, second.status().retried, second.status().done) == (2, 3, 7)
    assert "7 of 7 items done (3 of them again), 2 with errors" in str(second.status())
    attempts = dict(zip(*(second.table().column(name).to_pylist() for name in ("id", "attempt")), strict=True))
    assert attempts == {f"item {i}": 2 if i in (1, 3, 5) else 1 for i in range(7)}
    failing.clear()
    third = start(items, folder, model, retry_failed=True).run()
    assert third.status().with_errors == 1
    assert len(third.table(["status"])) == len(third.table())
    rows = {row["id"]: row for row in third.table().to_pylist()}
    assert (rows["item 5"]["attempt"], rows["item 3"]["attempt"]) == (3, 2)
    assert np.array_equal(third.basis("item 5").v, basis_of(5).v)
    assert len(third.pictures("item 5")) == 3
    alone = start(items, tmp_path / "alone", model).run()
    kept = [n for n in alone.table().column_names if n not in ("part", "seconds", "basis", "pictures", "attempt")]
    assert sorted(third.table(kept).to_pylist(), key=str) == sorted(alone.table(kept).to_pylist(), key=str)


def test_a_retry_that_is_killed_goes_on(
    model: latentjac.Model, tmp_path: Path, failing: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempts count until the second ones are written."""
    failing |= {0, 2, 3, 4}
    items, folder = items_of(tmp_path, 5), tmp_path / "run"
    start(items, folder, model).run()

    def before(seed: int) -> None:
        if seed == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Failing, "before", staticmethod(before))
    with pytest.raises(KeyboardInterrupt):
        start(items, folder, model, retry_failed=True, batch_size=1).run()
    opened = batch.open(folder)
    assert (opened.status().with_errors, opened.status().retried) == (3, 3)  # seeds 1, 3 and 4
    monkeypatch.setattr(Failing, "before", staticmethod(lambda seed: None))
    check_whole_but_retried(start(items, folder, model, retry_failed=True).run())


def check_whole_but_retried(results: batch.Results) -> None:
    assert check_whole(results, 5, complete=False) == 5
    assert results.status().with_errors == 1


def test_a_photo_that_was_mended_is_read(model: latentjac.Model, tmp_path: Path) -> None:
    photos, spec = tmp_path / "photos", {"items": str(tmp_path / "photos"), "invert": {"num_inference_steps": 1}}
    photos.mkdir()
    for name in "ab":
        (photos / f"{name}.png").write_bytes(b"no picture")
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    ((message, count),) = results.status().errors
    assert (count, "a.png" in message) == (2, True)
    Image.new("RGB", (8, 8)).save(photos / "b.png")
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1", retry_failed=True).run()
    status = dict(zip(*(results.table().column(name).to_pylist() for name in ("id", "status")), strict=True))
    assert status == {"a.png": "error", "b.png": "ok"}


def test_errors_are_of_a_kind_that_differ_in_names_and_numbers() -> None:
    messages = ["photo must be a file, got 'a.png'", None, "photo must be a file, got 'b c.png'", "NaN at timestep 599",
                "NaN at timestep 1.5e-3", "other"]  # fmt: skip
    assert _kinds(messages) == ((messages[0], 2), (messages[3], 2), ("other", 1))


def test_the_command(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    real = batch.Run

    def made(*arguments: object, **options: object) -> batch.Run:
        given.append(bool(options["retry_failed"]))
        return real(*arguments, **options, model=model)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "Run", made)
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "spec.yaml").write_text(json.dumps({"items": ["a.png"], "invert": {"num_inference_steps": 1}}))
    for more in ([], ["--retry-failed"]):
        found = command("run", tmp_path / "spec.yaml", "--out", tmp_path / "run", *more)
        assert found.returncode == 0, found.stderr
    assert given == [False, True]
    assert "1 of 1 items done (1 of them again), 1 with errors" in found.stdout
