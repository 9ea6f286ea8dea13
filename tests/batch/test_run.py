"""Runs: what is computed, gone on with, refused, and what ends one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch.instant import Failing, check_no_rests, check_whole, instant_tasks, items_of, small_model, start
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import compute, folder, parts, pipeline, run
from latentjac.batch.fingerprint import difference
from latentjac.batch.folder import RunFolder, working
from latentjac.editing import Linear

pytest.importorskip("pyarrow")
SPEC = {
    "invert": {"num_inference_steps": 5},
    "bases": {"t": [0.8, 0.6], "k": 2, "tol": 0.1},
    "measures": {"linearity": None, "effective_rank": {"probes": 2, "steps": 2}},
    "edits": [{"method": "linear", "t": 0.6, "directions": [2, 1], "distance": [-1, 1], "num_steps": 2}],
}


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take no time, and parts of two items."""
    monkeypatch.setattr(run, "tasks_of", instant_tasks)
    monkeypatch.setattr(parts, "MOST_ITEMS", 2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def finished(model: latentjac.Model, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> batch.Results:
    """Two photos and a file that is none through all kinds of steps."""
    return batch.Run({"items": str(photos), **SPEC}, tmp_path_factory.mktemp("run"), model=model, shard="1/1").run()


def rows_of(results: batch.Results, id: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = [row for row in results.table().to_pylist() if row["id"] == id]
    return {(row["step"], row["t"]): row for row in rows}


def test_a_run_computes_what_the_functions_do(finished: batch.Results, model: latentjac.Model, photos: Path) -> None:
    path = latentjac.invert(model, photos / "1.png", num_inference_steps=5)
    point = path.at(0.6)
    basis = latentjac.local_basis(model, point, k=2, tol=0.1, generator=torch.Generator().manual_seed(0))
    method = Linear(layer="mid", num_steps=2)
    edit = latentjac.edit(model, point, basis.v[[1, 0]], [-1, 1], method=method)
    rows, saved = rows_of(finished, "1.png"), finished.basis("1.png", t=0.6)
    assert rows["invert", None]["psnr"] == pytest.approx(path.psnr[0], abs=1e-3)
    assert torch.allclose(saved.v, basis.v, atol=1e-4)
    assert saved.metadata["timestep"] == point.timestep
    assert rows["basis", 0.6]["singular_values"] == pytest.approx(basis.s.tolist(), rel=1e-4)
    pictures = [np.asarray(Image.open(file), dtype=int) for file in finished.pictures("1.png")]
    assert [file.name for file in finished.pictures("1.png")] == [
        f"001-edit1-direction{i}_{d}.png" for i in (2, 1) for d in ("-1", "+1")
    ]
    for drawn, expected in zip(pictures, edit.images, strict=True):
        assert abs(drawn - np.asarray(expected, dtype=int)).max() <= 1
    rank = latentjac.effective_rank(
        latentjac.diffusion.linearization_at(model, point, "mid"), basis=saved, probes=2, steps=2
    )
    assert rows["effective_rank", 0.6]["participation"] == pytest.approx(rank.participation.value, rel=1e-3)
    radii = [entry.radius for entry in _linearity(model, point, saved.v)]
    assert rows["linearity", 0.6]["linear_up_to"] == pytest.approx(radii, rel=1e-3)


def test_edits_with_what_the_inversion_misses(model: latentjac.Model, photos: Path, tmp_path: Path) -> None:
    """Distance 0 is then the photo, also on the page."""
    edit = {"method": "linear", "distance": [1, -1], "num_steps": 1, "residual": True}
    spec = {"invert": {"num_inference_steps": 3}, "bases": {"t": 0.6, "k": 1, "tol": 0.3}, "edits": [edit]}
    done = batch.Run({"items": [str(photos / "0.png")], **spec}, tmp_path / "run", model=model, shard="1/1").run()
    id = str(photos / "0.png")
    point = latentjac.invert(model, id, num_inference_steps=3).at(0.6)
    method = Linear(layer="mid", num_steps=1)
    made = latentjac.edit(model, point, done.basis(id).v[0], [1, -1], method=method, photo=id)
    for drawn, expected in zip(done.images(id), made.images, strict=True):
        assert abs(np.asarray(drawn, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1
    assert (tmp_path / "run" / "index.html").read_text().count("data:image/webp") == 1 + 3


def _linearity(model: latentjac.Model, point: latentjac.Point, v: torch.Tensor) -> Any:
    from latentjac.geometry.linearity import measure_linearity

    return measure_linearity(model, point, v, point.noise, 0.1)


def test_a_bad_photo_is_a_row_and_the_rest_of_it_is_skipped(finished: batch.Results) -> None:
    rows = rows_of(finished, "bad.png")
    assert rows["invert", None]["status"] == "error"
    assert "must be a picture file" in rows["invert", None]["error"]
    assert {row["status"] for key, row in rows.items() if key[0] != "invert"} == {"skipped"}
    assert len(rows) == len(rows_of(finished, "0.png")) == 8
    assert {row["status"] for row in rows_of(finished, "0.png").values()} == {"ok"}
    assert finished.status().with_errors == 1
    assert "bad.png" in finished.status().errors[0][0]


def test_the_page_shows_pictures_and_errors(finished: batch.Results) -> None:
    page = (finished.path / "index.html").read_text()
    assert page.count("<latentjac-scrubber") == 2
    assert page.count("<img") == 2 * (1 + 2 * 2)  # the photo, and two directions at two distances
    assert "must be a picture file" in page


def test_what_is_done_is_not_done_again(
    finished: batch.Results, model: latentjac.Model, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "compute", lambda *arguments: pytest.fail("computed again"))
    again = batch.Run({"items": str(photos), **SPEC}, finished.path, model=model, shard="1/1")
    assert again.plan().left == 0
    assert again.run().table().equals(finished.table())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bases": {"t": [0.8, 0.6], "k": 1, "tol": 0.1}, "edits": None}, "bases.k was 2 and is 1"),
        ({"invert": {"num_inference_steps": 4}}, "invert.num_inference_steps was 5 and is 4"),
        ({"measures": None}, "measures.linearity"),
    ],
)
def test_other_settings_are_refused(
    finished: batch.Results, model: latentjac.Model, photos: Path, changed: dict[str, Any], told: str
) -> None:
    before = (finished.path / "run.json").read_bytes()
    other = batch.Run({"items": str(photos), **SPEC, **changed}, finished.path, model=model, shard="1/1")
    for call in (other.plan, other.run):
        with pytest.raises(ValueError, match=told):
            call()
    assert (finished.path / "run.json").read_bytes() == before


def test_another_model_is_refused(finished: batch.Results, photos: Path) -> None:
    other = latentjac.load(build_shallow_unet().requires_grad_(False), build_scheduler(beta_end=0.01))
    with pytest.raises(ValueError, match=r"model\.scheduler was \"DDIMScheduler\(.* and is \"DDIMScheduler"):
        batch.Run({"items": str(photos), **SPEC}, finished.path, model=other, shard="1/1").run()


def test_of_long_values_what_differs_is_shown() -> None:
    one, other = ({"model": {"scheduler": f"{'x' * 100}, spacing={name}, {'y' * 100}"}} for name in ("leading", "own"))
    (told,) = difference(one, other)
    assert re.fullmatch(
        r"model\.scheduler was \.\.\.x+, spacing=leading, y+\.\.\. and is \.\.\.x+, spacing=own, y+\.\.\.", told
    )
    assert difference({"version": "1"}, {"version": "2"}) == ['version was "1" and is "2"']


@pytest.mark.usefixtures("instant")
def test_items_can_be_added_but_not_changed(model: latentjac.Model, tmp_path: Path) -> None:
    start(items_of(tmp_path, 3), tmp_path / "run", model).run()
    results = start(items_of(tmp_path, 5), tmp_path / "run", model).run()
    check_whole(results, 5, complete=True)
    assert results.status().items == 5
    items = tmp_path / "items.jsonl"
    items.write_text(items.read_text().replace('"seed": 3', '"seed": 33'))
    with pytest.raises(ValueError, match="'item 3' with another photo, prompt, seed, class or mask"):
        start(items, tmp_path / "run", model).run()


@pytest.mark.usefixtures("instant")
def test_own_columns_may_change_their_kind(model: latentjac.Model, tmp_path: Path) -> None:
    """The first text in a column of numbers, in rows that were added, must not end every reading of the results."""
    table = tmp_path / "items.jsonl"
    rows = [
        '{"seed": 3, "note": null, "rank": 1}\n',
        '{"seed": 4, "note": 2.5, "rank": 2.5}\n',
        '{"seed": 5, "note": "x"}\n',
    ]
    for count in (1, 2, 3):
        table.write_text("".join(rows[:count]))
        results = batch.Run({"items": str(table)}, tmp_path / "run", model=model, shard="1/1").run()
    found = {row["id"]: (row["note"], row["rank"]) for row in results.table().to_pylist()}
    assert found == {"1": (None, 1.0), "2": ("2.5", 2.5), "3": ('"x"', None)}
    assert results.table(["note"]).schema.field("note").type == "string"
    assert results.manifest["name"] == model.name != "faces"


@pytest.mark.usefixtures("instant")
def test_shards_together_are_one_run(model: latentjac.Model, tmp_path: Path) -> None:
    items = items_of(tmp_path, 9)
    results = [start(items, tmp_path / "run", model, shard=f"{i}/3").run() for i in (1, 2, 3)]
    assert [len({*r.table(["id"]).column("id").to_pylist()}) for r in results][-1] == 9
    check_whole(results[-1], 9, complete=True)
    alone = start(items, tmp_path / "alone", model).run()
    kept = [name for name in alone.table().column_names if name not in ("part", "seconds", "basis", "pictures")]
    together, one = (sorted(r.table(kept).to_pylist(), key=str) for r in (results[-1], alone))
    assert together == one


@pytest.mark.usefixtures("instant")
def test_two_workers_on_one_shard(model: latentjac.Model, tmp_path: Path) -> None:
    items, folder = items_of(tmp_path, 4), tmp_path / "run"
    folder.mkdir()
    with working(RunFolder(folder), batch.Shard(1, 2)):
        for shard in ("1/2", "1/1", "3/3"):
            with pytest.raises(ValueError, match="where a run works on 1/2"):
                start(items, folder, model, shard=shard).run()
        results = start(items, folder, model, shard="2/2").run()
        assert results.status().working == (batch.Shard(1, 2),)
    check_whole(start(items, folder, model).run(), 4, complete=True)


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit])
def test_what_is_finished_is_written_when_a_run_is_ended(
    ends: type[BaseException], model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(seed: int) -> None:
        if seed == 3:
            raise ends

    monkeypatch.setattr(Failing, "before", staticmethod(before))
    items = items_of(tmp_path, 6)
    with pytest.raises(ends):
        start(items, tmp_path / "run", model, batch_size=1).run()
    assert check_whole(batch.open(tmp_path / "run"), 6, complete=False) == 3
    monkeypatch.setattr(Failing, "before", staticmethod(lambda seed: None))
    check_whole(start(items, tmp_path / "run", model).run(), 6, complete=True)


@pytest.mark.usefixtures("instant")
def test_a_disk_that_is_too_small_is_told_at_the_start(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    items = items_of(tmp_path, 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.warns(UserWarning, match=r"run: the folder's disk must have room for about .* kB, got 1 kB that are"):
        start(items, tmp_path / "run", model).run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left to be written
        start(items, tmp_path / "run", model).run()


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("number", [3, 8, 13, 18])
def test_a_full_disk_leaves_nothing_half(
    number: int, model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    items = items_of(tmp_path, 6)
    run_of_it = start(items, tmp_path / "run", model)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*run") as caught:
        run_of_it.run()
    monkeypatch.setattr(os, "fsync", sync)
    assert caught.value.errno == errno.ENOSPC
    if (tmp_path / "run" / "run.json").exists():
        check_whole(batch.open(tmp_path / "run"), 6, complete=False)
    check_whole(start(items, tmp_path / "run", model).run(), 6, complete=True)


@pytest.mark.usefixtures("instant")
def test_a_failing_device_ends_a_run(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(seed: int) -> None:
        if seed == 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Failing, "before", staticmethod(before))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        start(items_of(tmp_path, 4), tmp_path / "run", model, batch_size=1).run()
    assert check_whole(batch.open(tmp_path / "run"), 4, complete=False) == 2


@pytest.mark.usefixtures("instant")
def test_memory_that_has_no_room_halves_the_batch_and_says_so_once(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Large(instant_tasks(None)[0].__class__):  # type: ignore[misc]
        def run(self, model: Any, works: Any) -> Any:
            sizes.append(len(works))
            if len(works) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return super().run(model, works)

    monkeypatch.setattr(run, "tasks_of", lambda spec: [Large(), *instant_tasks(spec)[1:]])
    with pytest.warns(UserWarning, match="no room for 4 items at once; going on with 2") as caught:
        results = start(items_of(tmp_path, 12), tmp_path / "run", model, batch_size=4).run()
    assert len(caught) == 1
    check_whole(results, 12, complete=True)
    assert sizes.count(4) <= 2  # one more was read ahead


def test_an_item_that_does_not_converge_and_a_network_of_nan(tmp_path: Path, photos: Path) -> None:
    def call(net: Any, x: torch.Tensor, t: torch.Tensor, c: Any) -> torch.Tensor:
        out = net(x, t).sample
        return out * torch.where(x[:, :1, :1, :1] > 0.5, torch.nan, 1.0)

    network = build_shallow_unet()
    model = latentjac.Model(network, build_scheduler(), call=call, layers={"mid": network.mid_block})
    for name, level in (("dark", 0), ("light", 255)):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / f"{name}.png")
    spec = {"items": [str(tmp_path / f"{n}.png") for n in ("light", "dark")], "invert": {"num_inference_steps": 1}}
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    rows = {Path(row["id"]).stem: row for row in results.table().to_pylist()}
    assert rows["light"]["status"] == "error"
    assert "finite" in rows["light"]["error"]
    assert rows["dark"]["status"] == "ok"


def test_a_basis_that_does_not_converge_is_kept_with_its_error(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentjac.batch import tasks

    real = tasks.local_basis
    monkeypatch.setattr(tasks, "local_basis", lambda *a, **o: real(*a, **{**o, "tol": 1e-9, "max_passes": 2}))
    spec = {"items": str(items_of(tmp_path, 1)), "sample": {"num_inference_steps": 2}, "bases": {"t": 0.5, "k": 2},
            "edits": [{"method": "linear", "num_steps": 1}]}  # fmt: skip
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    rows = rows_of(results, "item 0")
    assert [rows[key]["status"] for key in (("sample", None), ("basis", 0.5), ("edit", 0.5))] == [
        "ok", "not converged", "not converged"
    ]  # fmt: skip
    assert "out of passes" in rows["basis", 0.5]["error"]
    assert results.basis("item 0").status is latentjac.Status.OUT_OF_PASSES
    assert results.status().not_converged == 1


def test_seeds_are_those_of_sample_whatever_is_beside_them(model: latentjac.Model, tmp_path: Path) -> None:
    spec = {"items": str(items_of(tmp_path, 3)), "sample": {"num_inference_steps": 3}}
    results = batch.Run(spec, tmp_path / "run", model=model, batch_size=3, shard="1/1").run()
    generator = torch.Generator().manual_seed(2)
    (expected,) = latentjac.sample(model, num_inference_steps=3, generator=generator)
    (drawn,) = (Image.open(file) for file in results.pictures("item 2"))
    assert abs(np.asarray(drawn, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_a_folder_of_something_else_is_refused(model: latentjac.Model, tmp_path: Path) -> None:
    items = items_of(tmp_path, 1)
    with pytest.raises(ValueError, match=r"Run: folder must be new, empty.*holds 'items.jsonl'"):
        start(items, tmp_path, model)
    with pytest.raises(ValueError, match="Run: folder must be a folder"):
        start(items, items, model)


def test_inversions_that_lead_elsewhere_are_counted_not_warned_of(
    model: latentjac.Model, photos: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    spec = {"items": str(photos), "invert": {"num_inference_steps": 1}}
    results = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").run()
    assert not [entry for entry in recwarn if "invert" in str(entry.message)]
    lost = [
        row["id"] for row in results.table().to_pylist() if row["inversion"] == "the way back leads to another picture"
    ]
    assert lost == ["0.png", "1.png"]
    assert results.status().lost == 2
    assert "2 inversions lead back to another picture" in str(results.status())


@pytest.mark.usefixtures("instant")
def test_there_is_a_page_after_the_first_part(
    model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the end, so that settings can be judged by what they give."""
    page, there = tmp_path / "run" / "index.html", {}

    def before(seed: int) -> None:
        there[seed] = page.read_text().count("<img") if page.exists() else 0

    monkeypatch.setattr(Failing, "before", staticmethod(before))
    start(items_of(tmp_path, 9), tmp_path / "run", model, batch_size=1).run()
    assert (there[0], there[1]) == (0, 0)
    assert 3 <= there[8] < page.read_text().count("<img")


@pytest.mark.usefixtures("instant")
def test_a_part_of_another_run_and_a_damaged_one_are_refused(model: latentjac.Model, tmp_path: Path) -> None:
    items = items_of(tmp_path, 2)
    results = start(items, tmp_path / "run", model).run()
    table = results.path / "table" / f"{results.table(['part']).column('part')[0].as_py()}.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    told = r"must be a table of a run.*where it is removed, its items are done again"
    with pytest.raises(latentjac.FileError, match=told):
        batch.open(results.path).table()
    table.unlink()
    check_whole(start(items, tmp_path / "run", model).run(), 2, complete=True)
    table.write_bytes(whole)
    manifest = results.path / "run.json"
    manifest.write_text(manifest.read_text().replace(str(results.manifest["fingerprint"]), "0" * 64))
    with pytest.raises(latentjac.FileError, match="got a table of another run"):
        batch.open(results.path).table()


@pytest.mark.usefixtures("instant")
def test_a_damaged_basis_is_named(model: latentjac.Model, tmp_path: Path) -> None:
    results = start(items_of(tmp_path, 1), tmp_path / "run", model).run()
    (file,) = (results.path / "bases").iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(latentjac.FileError, match=r"SHA-256|residuals|finite|rows"):
        results.basis("item 0")


@pytest.mark.usefixtures("instant")
def test_questions_about_what_is_not_there(model: latentjac.Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no run\.json"):
        batch.open(tmp_path)
    results = start(items_of(tmp_path, 1), tmp_path / "run", model).run()
    with pytest.raises(ValueError, match=r"basis: t and layer must name one basis of 'item 0', which has t=0\.5"):
        results.basis("item 0", t=0.4)
    for name in ("pictures", "rows"):
        with pytest.raises(ValueError, match=f"{name}: id must be that of an item that is done, got 'other'"):
            getattr(results, name)("other")
    assert results.rows("item 0") == results.table().to_pylist()
    with pytest.raises(ValueError, match="table: columns must be among those of the run, got 'colour'"):
        results.table(["colour"])
    assert str(results.status()).startswith("1 of 1 items done, 0 with errors")


def test_pictures_hold_no_open_files(finished: batch.Results) -> None:
    """A program that keeps those of a thousand items would have no files left."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    before = len(list(folder.iterdir()))
    kept = [finished.images("0.png") for _ in range(5)]
    assert len(list(folder.iterdir())) == before
    assert len(kept[0]) == 4


def test_a_plan_counts_what_a_run_writes(model: latentjac.Model, photos: Path, finished: batch.Results) -> None:
    new = finished.path.parent / "not made"
    plan = batch.Run({"items": str(photos), **SPEC}, new, model=model, shard="1/1").plan()
    assert not new.exists()
    assert (plan.items, plan.left, plan.rows, plan.bases, plan.pictures) == (3, 3, 24, 6, 12)
    written = sum(file.stat().st_size for file in (finished.path / "bases").iterdir())
    assert 0.5 < plan.basis_bytes * 2 / 3 / written < 2
    assert "edit 1 at t = 0.6, layer mid" in str(plan)


@pytest.mark.usefixtures("instant")
def test_parts_end_where_they_are_full(model: latentjac.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = items_of(tmp_path, 6)
    assert start(items, tmp_path / "items", model).run().status().parts == 3
    monkeypatch.setattr(parts, "MOST_ITEMS", 100)
    for name, limit in (("MOST_SECONDS", 0.0), ("MOST_BYTES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(parts, name, limit)
            assert start(items, tmp_path / name, model).run().status().parts == 6
    results = start(items, tmp_path / "one", model).run()
    assert results.status().parts == 1
    check_no_rests(results)


def test_errors_are_one_line_and_name_unusual_kinds() -> None:
    assert compute._told(ValueError("a\n b")) == "a b"
    assert compute._told(KeyError("x")) == "KeyError: 'x'"
    assert compute._told(MemoryError()) == "MemoryError"
    assert len(compute._told(ValueError("x" * 5000))) == 1000


def test_shards_that_start_at_once_remove_the_pieces_of_a_killed_run(
    model: latentjac.Model, tmp_path: Path, instant: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a run with another number of shards are for whoever starts first."""
    items, path = items_of(tmp_path, 6), tmp_path / "run"
    start(items, path, model, shard="1/3").run()
    for number in range(4):
        piece = path / "pictures" / f"0001-of-0001-{number:06d}"
        piece.mkdir()
        (piece / "000-sample.png").write_bytes(b"half")
    real, both = shutil.rmtree, threading.Barrier(2)

    def met(entry: Path) -> None:
        with suppress(threading.BrokenBarrierError):  # as it is where one waits for the other
            both.wait(2)
        real(entry)

    monkeypatch.setattr(folder.shutil, "rmtree", met)
    with ThreadPoolExecutor(2) as pool:
        for run_of_one in [pool.submit(start(items, path, model, shard=f"{i}/2").run) for i in (1, 2)]:
            run_of_one.result()
    assert check_whole(batch.open(path), 6, complete=True) == 6
