"""The specs of docs/batch.md run as they stand there, and the command does what the page says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch.instant import small_model
from cli.commands import Done, run
from PIL import Image

import latentjac
from latentjac import batch
from latentjac.batch import fitting, pipeline
from latentjac.batch.tars import tar_file

pytest.importorskip("pyarrow")
pytest.importorskip("yaml")
PAGE = (Path(latentjac.__file__).parents[1] / "docs" / "batch.md").read_text()
BLOCKS = dict(re.findall(r"<!-- (\w+ [\w.]+) -->\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return small_model()


@pytest.fixture(scope="module")
def place(model: latentjac.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the specs of the page name: photos, tables, masks, a basis and a slider."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    (folder / "seeds.jsonl").write_text(BLOCKS["items seeds.jsonl"])
    Image.fromarray(np.repeat(np.uint8([[0, 255]]), 4, axis=1).repeat(8, axis=0)).save(folder / "mask.png")
    rows = [f'{{"photo": "photos/{i}.png", "face": "mask.png"}}\n' for i in range(2)]
    (folder / "faces.jsonl").write_text("".join(rows))
    photos = [(file.name, file.read_bytes()) for file in sorted((folder / "photos").iterdir())]
    (folder / "photos.tar").write_bytes(tar_file(photos))
    point = latentjac.invert(model, folder / "photos" / "0.png", num_inference_steps=5).at(0.6)
    basis = latentjac.local_basis(model, point, k=2, tol=0.1)
    basis.save(folder / "basis.safetensors")
    method = latentjac.editing.Linear(num_steps=1)
    latentjac.Slider.make(model, point, basis.v[0], change=0.01, method=method).save(folder / "slider.safetensors")
    return folder


@pytest.fixture
def command(
    model: latentjac.Model, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Runs a spec of the page in a folder with what it names; the model is tiny, the grid short."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fitting, "load", lambda *arguments, **options: model)
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)

    def called(spec: str, *options: str) -> Done:
        text = re.sub(r"num_inference_steps: \d+", "num_inference_steps: 5", BLOCKS[f"spec {spec}"])
        if "edits:" in text and "invert:" not in text:
            text += "invert: {num_inference_steps: 5}\n"
        (tmp_path / "spec.yaml").write_text(text)
        return run("run", "spec.yaml", "--out", "run", *options)

    return called


def check_done(done: Done, steps: int) -> batch.Results:
    """Check that a command did so many steps for each of two items."""
    assert done.returncode == 0, done.stderr
    results = batch.open("run")
    assert results.status().done == 2
    assert len(results.table()) == 2 * steps
    assert set(results.table(["status"]).column("status").to_pylist()) <= {"ok", "not converged"}
    assert "2 of 2 items done, 0 with errors" in done.stdout
    return results


@pytest.mark.parametrize(("spec", "steps"), [("first", 3), ("photos", 8), ("directions", 2), ("masks", 4), ("mask", 3)])
def test_specs_of_the_page_run(command: Callable[..., Done], spec: str, steps: int) -> None:
    check_done(command(spec), steps)


def test_statistics_of_the_page(command: Callable[..., Done]) -> None:
    check_done(command("statistics"), 11)
    names: dict[str, Any] = {}
    exec(BLOCKS["python statistics"], names)
    found = names["by_t"].to_pylist()
    assert sorted(row["t"] for row in found) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert all(row["participation_mean"] >= 1 for row in found)


def test_the_slider_of_the_page(command: Callable[..., Done]) -> None:
    check_done(command("slider"), 2)
    names: dict[str, Any] = {}
    exec(BLOCKS["python slider"], names)
    assert len(names["rows"]) == 2
    for row in names["rows"]:
        assert row["changes"] == pytest.approx([0.01, 0.005, 0.005, 0.01], abs=0.02 * 0.01)
    assert {id: len(images) for id, images in names["pictures"].items()} == {"0.png": 4, "1.png": 4}
    assert Path("run/index.html").read_text().count("<latentjac-scrubber") == 2


def test_the_sweep_of_the_page_goes_on_after_items_were_added(command: Callable[..., Done], tmp_path: Path) -> None:
    rows = (tmp_path / "seeds.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "seeds.jsonl").write_text(rows[0])
    command("sweep")
    first = batch.open("run").table()
    (tmp_path / "seeds.jsonl").write_text("".join(rows))
    both = check_done(command("sweep"), 9).table()
    assert both.slice(0, len(first)).equals(first)
    assert both.column("id").to_pylist() == ["first"] * 9 + ["second"] * 9
    assert set(both.column("group").to_pylist()) == {"a", "b"}


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [(KeyboardInterrupt(), 130, "interrupted"), (SystemExit(143), 143, "the same command goes on"),
     (OSError(28, "No space left on device", "run"), 2, "error: [Errno 28] No space left on device: 'run'")],
)  # fmt: skip
def test_a_run_that_is_ended_tells_how_it_goes_on(
    error: BaseException, status: int, told: str, command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = pipeline.compute, list[int]()

    def compute(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "compute", compute)
        done = command("directions", "--batch-size", "1")
    assert done.returncode == status
    assert "\n1 of 2 items are done; the same command goes on\n" in done.stderr
    assert told in done.stderr.splitlines()[-1]
    assert "2 of 2 items done" in command("directions").stdout


def test_values_that_are_set(command: Callable[..., Done], tmp_path: Path) -> None:
    import shlex

    first, second = (shlex.split(line)[2:] for line in BLOCKS["bash set"].splitlines())
    text = BLOCKS["spec photos"].replace("50", "5")
    (tmp_path / "spec.yaml").write_text(text)
    done = run("run", *first)
    assert done.returncode == 0, done.stderr
    settings = batch.open("run").manifest["settings"]
    assert (settings["bases"]["k"], settings["edits"][0]["distance"]) == (2, [-2.0, 2.0])
    done = run("run", *second)
    assert done.returncode == 0, done.stderr
    assert len(batch.open("smiles").images("1.png")) == 2
    for options, told in (
        ([], "SPEC must be a YAML file, got none; or give at least --set items=FOLDER"),
        (["--set", "items"], "--set must be KEY=VALUE, such as items=photos, got items"),
        (["--set", "items=[a"], "--set must be KEY=VALUE with a value in YAML, got 'items=[a'"),
        (["--set", "bases.k=2"], "spec: 'items' must be a folder, a table or a list of picture files, got none"),
    ):
        done = run("run", *options)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"error: {told}")


def test_a_dry_run_writes_nothing(command: Callable[..., Done], tmp_path: Path) -> None:
    done = command("sweep", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "items of shard 1/1: 2, of which 2 are left" in done.stdout
    assert "to be written: about" in done.stdout
    assert not (tmp_path / "run").exists()


def test_shards_of_the_command(command: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "items of shard 2/2" in command("sweep", "--dry-run").stdout
    assert "items of shard 1/1" in command("sweep", "--dry-run", "--shard", "1/1").stdout


def test_refusals_of_the_command_are_those_of_the_page(command: Callable[..., Done], tmp_path: Path) -> None:
    def refused(spec: str) -> str:
        done = command(spec)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 or "%" in done.stderr
        return done.stderr.splitlines()[-1]

    BLOCKS["spec wrong"] = "items: photos\nbases: {t: 0.5, k: '8'}\n"
    assert refused("wrong") == "error: spec: 'bases.k' must be an int, got str"
    assert refused("wrong") in PAGE
    BLOCKS["spec wrong"] = "items: photos\nsample: {num_inference_steps: 5}\ninvert: {num_inference_steps: 5}\n"
    assert command("wrong").returncode == 0
    BLOCKS["spec wrong"] += "dtype: float32\nbases: {t: 0.5, k: 2}\n"
    begin = "error: --out must be new or that of a run with these settings, got 'run', where "
    assert refused("wrong").startswith(begin)
    assert begin in PAGE
    BLOCKS["spec wrong"] = "items: nowhere\n"
    assert "'items' must be a folder, a table" in refused("wrong")
    (tmp_path / "run" / "run.json").write_text("{}")
    BLOCKS["spec wrong"] = "items: photos\n"
    assert "must be that of a run of form 1" in refused("wrong")
