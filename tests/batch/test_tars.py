"""Tar files in the layout of webdataset, as output and as a source, and data sets as a source."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch.instant import basis_of, instant_tasks, items_of, picture_of, pictures_of, small_model
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import parts, run
from latentjac.batch.items import read_items
from latentjac.batch.stored import table_of_dataset
from latentjac.batch.tars import members, sample_of, tar_file

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "tasks_of", instant_tasks)
    monkeypatch.setattr(parts, "MOST_ITEMS", 2)


def start(items: Path, folder: Path, model: latentjac.Model) -> batch.Run:
    spec = {"items": str(items), "sample": {"num_inference_steps": 2}, "bases": {"t": 0.5, "k": 2}, "pictures": "tar"}
    return batch.Run(spec, folder, model=model, shard="1/1")


def drawn(images: list[Image.Image]) -> list[Any]:
    return [image.getpixel((0, 0)) for image in images]


@pytest.mark.usefixtures("instant")
def test_pictures_in_tar_files(model: latentjac.Model, tmp_path: Path) -> None:
    results = start(items_of(tmp_path, 5), tmp_path / "run", model).run()
    assert sorted(path.name for path in (results.path / "pictures").iterdir()) == [
        f"0001-of-0001-{part:06d}.tar" for part in range(3)
    ]
    for i in range(5):
        assert drawn(results.images(f"item {i}")) == drawn(pictures_of(i))
        assert torch.equal(results.basis(f"item {i}").v, basis_of(i).v)
    with pytest.raises(ValueError, match=r"pictures: the run must keep pictures as files.*see images"):
        results.pictures("item 0")
    page = (results.path / "index.html").read_text()
    assert page.count("<img") == 14
    assert len(list((results.path / "samples").iterdir())) == 14
    assert start(items_of(tmp_path, 5), tmp_path / "run", model).plan().left == 0


@pytest.mark.usefixtures("instant")
def test_files_have_images_too(model: latentjac.Model, tmp_path: Path) -> None:
    spec = {"items": str(items_of(tmp_path, 1)), "sample": {"num_inference_steps": 2}}
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    assert drawn(results.images("item 0")) == drawn(pictures_of(0))


@pytest.mark.usefixtures("instant")
def test_what_is_in_the_tar_files(model: latentjac.Model, tmp_path: Path) -> None:
    """Samples by names up to the first dot, one after the other; also by webdataset, where that is."""
    start(items_of(tmp_path, 3), tmp_path / "run", model).run()
    first, second = sorted((tmp_path / "run" / "pictures").iterdir())
    with tarfile.open(first) as tar:
        names = [entry.name for entry in tar]
        begin = "0001-of-0001-000000"
        assert names == [
            *(f"{begin}-000.{kind}" for kind in ("sample.png", "edit1.png", "slider1_+0.5.png", "json")),
            *(f"{begin}-001.{kind}" for kind in ("sample.png", "slider1_+0.5.png", "json")),
        ]
        facts = json.loads(tar.extractfile(names[-1]).read())
    assert (facts["id"], facts["seed"], facts["weight"]) == ("item 1", 1, 0.5)
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset([str(first), str(second)], shardshuffle=False).decode("pil"))
    assert [sample["json"]["id"] for sample in samples] == ["item 0", "item 1", "item 2"]
    assert drawn([samples[0]["edit1.png"], samples[2]["sample.png"]]) == drawn([picture_of(300), picture_of(2)])


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("number", range(1, 20, 3))
def test_a_full_disk_leaves_nothing_half(
    number: int, model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, sync, calls = items_of(tmp_path, 5), os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            start(items, tmp_path / "run", model).run()
    results = start(items, tmp_path / "run", model).run()
    assert results.status().done == 5
    named = {row["part"] for row in results.table(["part"]).to_pylist()}
    assert {path.stem for path in (results.path / "pictures").iterdir()} == named
    for i in range(5):
        assert len(results.images(f"item {i}")) == (2 if i == 1 else 3)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shards(folder: Path) -> None:
    facts = b'{"weight": 0.5, "seed": 3, "id": "other"}'
    files = [("a/one.png", png(0)), ("a/one.txt", b"a cat \n"), ("a/one.cls", b"2"), (".hidden.png", b""),
             ("two.jpg", png(1)), ("two.json", facts), ("two.npy", b"?")]  # fmt: skip
    (folder / "s-0.tar").write_bytes(tar_file(files))
    (folder / "s-1.tar").write_bytes(tar_file([("three.png", b"no picture"), ("four.json", b'{"seed": 7}')]))


def test_items_of_tar_files(tmp_path: Path) -> None:
    shards(tmp_path)
    items = {item.id: item for item in read_items("s-*.tar", tmp_path)}
    assert list(items) == ["a/one", "two", "three", "four"]
    assert (items["a/one"].prompt, items["a/one"].label, items["two"].seed) == ("a cat", 2, 3)
    assert items["two"].own == {"weight": 0.5}
    for id, seed in (("a/one", 0), ("two", 1)):
        assert items[id].stored.picture().tobytes() == Image.open(io.BytesIO(png(seed))).tobytes()
    assert (items["four"].photo, items["four"].stored, items["four"].seed) == (None, None, 7)
    assert [item.id for item in read_items("s-1.tar", tmp_path)] == ["three", "four"]


def test_a_run_over_tar_files_is_one_over_the_same_files(model: latentjac.Model, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, seed in (("x.png", 4), ("y.png", 5)):
        (tmp_path / "photos" / name).write_bytes(png(seed))
    (tmp_path / "photos.tar").write_bytes(tar_file([("x.png", png(4)), ("y.png", png(5)), ("z.png", b"no picture")]))
    spec = {"invert": {"num_inference_steps": 3}, "bases": {"t": 0.7, "k": 1, "tol": 0.1}}
    found = {}
    for source in ("photos", "photos.tar"):
        made = batch.Run(
            {"items": str(tmp_path / source), **spec}, tmp_path / f"run {source}", model=model, shard="1/1"
        )
        found[source] = made.run()
    assert torch.equal(found["photos"].basis("x.png").v, found["photos.tar"].basis("x").v)
    rows = [row for row in found["photos.tar"].table().to_pylist() if row["id"] == "z"]
    assert [row["status"] for row in rows] == ["error", "skipped"]
    assert "photo must be a picture file, got 'z.png' of" in rows[0]["error"]
    assert rows[0]["photo"].endswith("photos.tar/z.png")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.png", b""), ("a.jpg", b"")], "sample 'a' must have one picture"),
        ([("a.cls", b"cat")], "'a.cls' of .* must be what it is called: invalid literal"),
        ([("a.json", b"[]")], "must be a JSON object"),
        ([("a.txt", b"\xff")], "must be what it is called"),
        ([("a.txt", b"b")], "each must have a photo or a seed, got 'a' without both"),
        ([], "there must be at least one"),
    ],
)
def test_tar_files_that_are_refused(files: list[tuple[str, bytes]], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_file(files))
    with pytest.raises(ValueError, match=message):
        read_items("a.tar", tmp_path)


def test_what_is_no_tar_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "text.tar").write_text("no tar file" * 100)
    whole = tar_file([("a.png", png(0)), ("b.png", png(1))])
    (tmp_path / "half.tar").write_bytes(whole[:1600])
    for name in ("packed.tar", "text.tar", "half.tar"):
        with pytest.raises(latentjac.FileError, match="must be a tar file that is not compressed"):
            list(members(tmp_path / name))
    for name in ("missing.tar", "missing-*.tar"):
        with pytest.raises(FileNotFoundError):
            read_items(name, tmp_path)


def test_a_tar_file_that_became_shorter(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_file([("a.png", png(0))]))
    (member,) = members(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"short")
    with pytest.raises(latentjac.FileError, match=r"must hold 'a.png' whole, got 0 bytes"):
        member.picture()


def test_samples_end_at_the_first_dot() -> None:
    assert sample_of("a.b/c.left.png") == ("a.b/c", "left.png")


def test_a_data_set(model: latentjac.Model, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [Image.open(io.BytesIO(png(i))) for i in range(3)]
    columns = {"picture": pictures, "caption": ["a", "b", "c"], "weight": [0.5, 1.0, 1.5]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}).save_to_disk(tmp_path / "set")
    source = {"dataset": "set", "split": "train", "prompt": "caption"}
    items = list(read_items(source, tmp_path))
    assert [(item.id, item.prompt, item.own) for item in items][1] == ("picture/1", "b", {"weight": 1.0})
    assert items[2].stored.picture().tobytes() == pictures[2].tobytes()
    plain = tmp_path / "plain"
    datasets.Dataset.from_dict({"picture": pictures[:2]}).save_to_disk(plain)
    spec = {"items": {"dataset": str(plain)}, "invert": {"num_inference_steps": 1}}
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    assert results.table(["status"]).column("status").to_pylist() == ["ok", "ok"]
    for changed, message in (
        ({"split": None}, "must be"),
        ({"split": "test"}, r"'items.split' must name a part of the data set, one of \['train'\], got 'test'"),
        ({"dataset": str(plain), "split": "test"}, r"must name a part of the data set, one of \['all'\], got 'test'"),
        ({"photo": "caption"}, r"must be a column of pictures, one of \['picture'\], got 'caption'"),
        ({"prompt": "text"}, "'items.prompt' must be one of"),
        ({"name": "b"}, "keys of a data set must be among"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            read_items({**source, **changed}, tmp_path)
    with pytest.raises(ValueError, match=r"'items.split' must name a part"):
        read_items({"dataset": "set"}, tmp_path)


def test_a_data_set_needs_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install datasets"):
        table_of_dataset({"dataset": "a"}, tmp_path)
