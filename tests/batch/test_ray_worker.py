"""What a worker of Ray does with the batches that it is handed; called here without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch.instant import STEPS, Failing, check_whole, instant_tasks, items_of, small_model, start
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import folder, parts, ray_worker, run
from latentjac.batch.folder import RunFolder, ray_part_name, working
from latentjac.batch.ray_batches import blocks_of, items_in
from latentjac.batch.ray_run import Cluster
from latentjac.batch.stored import pictures_of
from latentjac.batch.tars import tar_file

pyarrow = pytest.importorskip("pyarrow")
SPEC = {"sample": {"num_inference_steps": 2}, "bases": {"t": 0.5, "k": 2}}


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture
def started(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes workers on one folder, whose steps take no time and whose parts have two items."""
    monkeypatch.setattr(ray_worker, "load_named", lambda spec, device: model)
    monkeypatch.setattr(run, "tasks_of", instant_tasks)
    monkeypatch.setattr(ray_worker, "tasks_of", instant_tasks)
    monkeypatch.setattr(parts, "MOST_ITEMS", 2)
    made = []

    def start(**options: Any) -> batch.RayWorker:
        made.append(batch.RayWorker(SPEC, tmp_path / "run", **options))
        return made[-1]

    yield start
    for worker in made:
        worker.close()


def columns(*seeds: int) -> dict[str, Any]:
    """A batch as Ray Data makes it for NumPy."""
    ids = np.array([f"item {seed}" for seed in seeds], dtype=object)
    return {"id": ids, "seed": np.array(seeds, dtype=float), "weight": np.array(seeds) / 2}


def test_batches_are_written_as_a_run_does(started: Any, tmp_path: Path) -> None:
    worker = started(batch_size=2)
    found = [worker(columns(0, 1, 2)), worker(pyarrow.table(columns(3, 4)))]
    worker.close()
    done = batch.open(tmp_path / "run")
    assert check_whole(done, 5, complete=False) == 5
    assert done.status().items == done.status().done == 5
    rows = pyarrow.concat_tables(found).sort_by([("part", "ascending"), ("id", "ascending")])
    assert rows.equals(done.table().sort_by([("part", "ascending"), ("id", "ascending")]))


def test_what_is_done_is_read(started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = started()(columns(0, 1, 2))
    asked: list[int] = []
    monkeypatch.setattr(Failing, "before", staticmethod(asked.append))
    again = started()
    assert again(columns(0, 1, 2)).equals(first)
    assert len(again(columns(2, 3))) == 2 * len(STEPS)
    assert asked == [3]
    with pytest.raises(ValueError, match="got 'item 3' with another photo, prompt, seed, class or mask"):
        again({**columns(3), "seed": np.array([4])})
    assert check_whole(batch.open(tmp_path / "run"), 4, complete=False) == 4


def test_own_columns_may_be_of_another_kind_in_each_batch(started: Any) -> None:
    """As a column of a table is whose first block has numbers alone, or nothing."""
    worker = started()
    worker({**columns(0), "note": [1.5]})
    rows = worker({**columns(0, 3), "note": ["x", "y"]})
    assert {row["id"]: row["note"] for row in rows.to_pylist()} == {"item 0": "1.5", "item 3": "y"}


def test_a_batch_that_is_done_again_writes_the_same_files(started: Any, tmp_path: Path) -> None:
    """As where a worker was killed before its table was there."""
    one = started()
    one(columns(0, 2))
    (table,) = (tmp_path / "run" / "table").iterdir()
    before = sorted((tmp_path / "run").rglob("*"))
    table.unlink()
    started()(columns(0, 2))
    assert {p for p in (tmp_path / "run").rglob("*") if ".lock" not in p.name} <= set(before)
    assert check_whole(batch.open(tmp_path / "run"), 3, complete=False) == 2


def test_an_item_in_two_parts_counts_once(started: Any, tmp_path: Path) -> None:
    """Of two workers at the same time, which Ray may have where a machine was cut off."""
    one, other = started(), started()
    one(columns(0, 2))
    other(columns(2, 3))
    done = batch.open(tmp_path / "run")
    assert len(done._parts) == 2
    assert check_whole(done, 4, complete=False) == 3
    assert done.status().retried == 0
    assert len(started()(columns(0, 2, 3))) == 3 * len(STEPS)


def test_failed_items_are_done_again_when_asked(started: Any, tmp_path: Path) -> None:
    started()(columns(0, 1))
    worker = started()
    worker({**columns(1), "attempt": np.array([2])})
    rows = batch.open(tmp_path / "run").table().to_pylist()
    assert {(row["id"], row["attempt"]) for row in rows} == {("item 0", 1), ("item 1", 2)}


def test_shares_of_ray_and_shards_exclude_each_other(started: Any, model: latentjac.Model, tmp_path: Path) -> None:
    worker, items = started(), items_of(tmp_path, 3)
    assert [str(share) for share in batch.open(tmp_path / "run").status().working] == [worker_name(tmp_path)]
    with pytest.raises(ValueError, match="where a run works on ray-"):
        start(items, tmp_path / "run", model).run()
    worker.close()
    with working(RunFolder(tmp_path / "run"), batch.Shard()), pytest.raises(ValueError, match="works on 1/1"):
        started()
    assert start(items, tmp_path / "run", model).run().status().done == 3


def worker_name(root: Path) -> str:
    (lock,) = (root / "run").glob(".ray-*.lock")
    return lock.name[1 : -len(".lock")]


def test_a_batch_that_ends_its_workers_is_given_up(started: Any, tmp_path: Path) -> None:
    worker, mark = started(retries=1), RunFolder(tmp_path / "run").mark(ray_part_name([("item 0", 1), ("item 2", 1)]))
    mark.write_bytes(b"1")
    assert len(worker(columns(0, 2))) == 2 * len(STEPS)
    assert not mark.exists()
    mark = RunFolder(tmp_path / "run").mark(ray_part_name([("item 3", 1)]))
    mark.write_bytes(b"2")
    with pytest.raises(RuntimeError, match="must not end its worker more than 1 times, got 2"):
        worker(columns(3))
    assert not mark.exists()


def test_a_device_that_fails_ends_the_process(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ended(BaseException):
        pass

    def fail(seed: int) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def ended(status: int) -> None:
        raise Ended

    monkeypatch.setattr(Failing, "before", staticmethod(fail))
    worker = started()
    with pytest.raises(RuntimeError, match="CUDA error"):
        worker(columns(0))
    monkeypatch.setattr(ray_worker, "_in_actor", lambda: True)
    monkeypatch.setattr(ray_worker.os, "_exit", ended)
    with pytest.raises(Ended):
        worker(columns(0))
    assert "the device failed, and this process ends: CUDA error" in capsys.readouterr().err


def test_pictures_in_memory(tmp_path: Path) -> None:
    pixels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    items, _ = items_in({"id": np.array(["a", "b"]), "image": pixels}, pictures_of(None, tmp_path))
    assert items is not None
    for item, expected in zip(items, pixels, strict=True):
        assert item.photo is not None
        assert item.stored is not None
        assert np.array_equal(item.stored.picture(), expected)
    items, _ = items_in({"id": np.array(["a"]), "image": np.array([b"no picture"])}, pictures_of(None, tmp_path))
    assert items is not None
    (item,) = items
    with pytest.raises(ValueError, match="photo must be a picture file"):
        item.stored.picture()  # type: ignore[union-attr]


def test_items_of_tar_files_find_their_pictures_elsewhere(model: latentjac.Model, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "a.png")
    (tmp_path / "photos.tar").write_bytes(tar_file([("a.png", (tmp_path / "a.png").read_bytes())]))
    made = batch.Run({"items": str(tmp_path / "photos.tar")}, tmp_path / "run", model=model, shard="1/1")
    (block,) = blocks_of(made.items, [0], lambda item: 2, 4)
    items, attempts = items_in(block, pictures_of(made.spec.items, made.spec.root))
    assert items is not None
    (item,) = items
    assert (item.id, attempts, item.digest) == ("a", {"a": 2}, next(iter(made.items)).digest)
    assert item.stored is not None
    assert item.stored.picture().getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folder": "run"}, "RayWorker: folder must be an absolute path, got 'run'"),
        ({"spec": "spec.yaml"}, "RayWorker: spec must be an absolute path, got 'spec.yaml'"),
        ({"batch_size": 0}, "RayWorker: batch_size must be"),
        ({"retries": -1}, "RayWorker: retries must be"),
    ],
)
def test_refused_arguments(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        batch.RayWorker(**{"spec": SPEC, "folder": tmp_path / "run", **given})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([1], TypeError, "batch must be a table of pyarrow or a mapping"),
        ({"seed": np.array([1])}, ValueError, "batch must have a column 'id', got"),
        ({**columns(1), "status": np.array(["ok"])}, ValueError, "own columns must not be .* got 'status'"),
        ({"id": np.array(["a"])}, ValueError, "each must have a photo or a seed"),
    ],
)
def test_refused_batches(given: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        items_in(given, pictures_of(None, tmp_path))


@pytest.mark.parametrize("address", ["", "here", "ray://host:1", "host:", "host:port", "a b:1", "/tmp/x:1"])
def test_refused_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="run_on_ray: address must be 'auto', 'local' or host:port"):
        Cluster(address)


def test_refused_runs(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = items_of(tmp_path, 2)
    monkeypatch.setattr("latentjac.batch.run.require_ray", lambda: None)
    with pytest.raises(ValueError, match="run_on_ray: model must be left to the spec"):
        start(items, tmp_path / "run", model).run_on_ray("local")
    with pytest.raises(ValueError, match="run_on_ray: shard must be 1/1"):
        batch.Run({"items": str(items)}, tmp_path / "run", shard="1/2").run_on_ray("local")
    monkeypatch.undo()
    made = start(items, tmp_path / "run", model)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'latentjac\[ray\]'"):
        made.run_on_ray("local")
    assert folder.RunFolder(tmp_path / "run").parts() == []
