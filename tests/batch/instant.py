"""Runs whose steps take no time: what they give is known from the item alone, so that writing is what is tested."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac
from latentjac.batch import Results, Run, run
from latentjac.batch.folder import PAGE
from latentjac.batch.parts import Result
from latentjac.batch.work import NOT_CONVERGED, Work
from latentjac.models import Model

T = 0.5
STEPS = ("sample", "basis", "edit", "slider")


def basis_of(seed: int) -> latentjac.LocalBasis:
    """A basis that is made up, but whole."""
    rows = torch.eye(6).roll(seed, 0)[:2]
    status = latentjac.Status.CONVERGED
    s = torch.tensor([2.0, 1.0]) + seed
    return latentjac.LocalBasis(
        s, rows.view(2, 1, 2, 3), rows.flip(1), torch.zeros(2), status, 2, 2, 0.0, {}, None, (status,)
    )


def picture_of(seed: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (seed % 256, seed // 256, 7))


def pictures_of(seed: int) -> list[Image.Image]:
    """All pictures of an item; its edit fails for seed 1."""
    return [picture_of(seed), *([picture_of(seed + 300)] if seed != 1 else []), picture_of(seed + 600)]


class Draw:
    """One picture an item."""

    place: dict[str, Any] = {"step": "start"}  # noqa: RUF012
    together = True

    def ready(self, work: Work) -> bool:
        return True

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        seeds = [work.item.seed or 0 for work in works]
        return [Result({"psnr": float(seed)}, pictures=[("sample", picture_of(seed))]) for seed in seeds]


class Found:
    """One basis an item; that of seed 2 has not converged."""

    place: dict[str, Any] = {"step": "basis", "t": T, "layer": "mid"}  # noqa: RUF012
    together = False

    def ready(self, work: Work) -> bool:
        return True

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        (work,) = works
        seed = work.item.seed or 0
        work.bases[T, "mid"] = basis_of(seed)
        more = {"status": NOT_CONVERGED, "error": "out of passes"} if seed == 2 else {}
        return [Result({"singular_values": [2.0, 1.0], **more}, basis=basis_of(seed))]


class Failing:
    """Fails for seed 1."""

    place: dict[str, Any] = {"step": "edit", "number": 1, "t": T, "layer": "mid"}  # noqa: RUF012
    together = True
    before: Callable[[int], object] = staticmethod(lambda seed: None)

    def ready(self, work: Work) -> bool:
        return (T, "mid") in work.bases

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        for work in works:
            self.before(work.item.seed or 0)
        if any(work.item.seed == 1 for work in works):
            raise ValueError("edit: seed must not be 1")
        return [Result({"path": [1.0]}, pictures=[("edit1", picture_of((w.item.seed or 0) + 300))]) for w in works]


class Slid:
    """A slider at one value; that of seed 2 has not reached its change."""

    place: dict[str, Any] = {"step": "slider", "number": 1, "t": T, "slider": "smile"}  # noqa: RUF012
    together = True

    def ready(self, work: Work) -> bool:
        return True

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        return [self._one(work.item.seed or 0) for work in works]

    def _one(self, seed: int) -> Result:
        more = {"status": NOT_CONVERGED, "error": "slider: values must have their change"} if seed == 2 else {}
        facts = {"values": [0.5], "changes": [seed / 8], "calibrated": [seed != 2], "leakage": None, **more}
        return Result(facts, pictures=[("slider1_+0.5", picture_of(seed + 600))])


def instant_tasks(spec: object) -> list[Any]:
    return [Draw(), Found(), Failing(), Slid()]


def write_spec(root: Path, count: int) -> Path:
    """The spec of so many seeds through a small network, for processes that have to load it."""
    DDIMPipeline(unet=build_shallow_unet(), scheduler=build_scheduler()).save_pretrained(root / "model")
    items_of(root, count)
    steps = {"sample": {"num_inference_steps": 2}, "bases": {"t": T, "k": 2, "tol": 0.5}}
    (root / "spec.yaml").write_text(json.dumps({"items": "items.jsonl", "model": str(root / "model"), **steps}))
    return root / "spec.yaml"


def small_model() -> Model:
    return latentjac.load(build_shallow_unet(), build_scheduler())


def items_of(folder: Path, count: int) -> Path:
    """A table of so many seeds."""
    path = folder / "items.jsonl"
    path.write_text("".join(f'{{"id": "item {i}", "seed": {i}, "weight": {i / 2}}}\n' for i in range(count)))
    return path


def start(items: Path, folder: Path, model: Model, **options: Any) -> Run:
    """A run; its steps are real ones unless ``run.tasks_of`` is replaced."""
    spec = {"items": str(items), "sample": {"num_inference_steps": 2}, "bases": {"t": T, "k": 2}}
    return run.Run(spec, folder, model=model, **{"shard": "1/1", **options})


def check_whole(results: Results, count: int, *, complete: bool) -> int:
    """Check that nothing is half, twice or, in a complete run, lost; give back how many items there are."""
    rows = results.table().to_pylist()
    keys = [(row["id"], row["step"]) for row in rows]
    assert len(set(keys)) == len(keys), "twice"
    ids = {row["id"] for row in rows}
    assert set(keys) == {(id, step) for id in ids for step in STEPS}, "half"
    assert not complete or ids == {f"item {i}" for i in range(count)}, "lost"
    for row in rows:
        seed, step = row["seed"], row["step"]
        assert row["weight"] == seed / 2
        told = {("edit", 1): "error", ("basis", 2): "not converged", ("slider", 2): "not converged"}
        status = told.get((step, seed), "ok")
        assert row["status"] == status
        assert (row["error"] is None) == (status == "ok")
        of_slider = ([0.5], [seed / 8], "smile") if step == "slider" else (None,) * 3
        assert (row["values"], row["changes"], row["slider"]) == of_slider
    for id in ids:
        seed = int(id.removeprefix("item "))
        assert torch.equal(results.basis(id).v, basis_of(seed).v)
        drawn = [Image.open(path).getpixel((0, 0)) for path in results.pictures(id)]
        expected = pictures_of(seed)
        assert drawn == [image.getpixel((0, 0)) for image in expected]
    if complete:
        check_no_rests(results)
    return len(ids)


def check_no_rests(results: Results) -> None:
    """Check that a folder holds what its tables name and nothing else."""
    parts = {row["part"] for row in results.table(["part"]).to_pylist()}
    ids = {row["id"] for row in results.table(["id"]).to_pylist()}
    expected = {results.path / name for name in ("run.json", PAGE, ".latentjac.lock")}
    for part in parts:
        expected |= {results.path / "table" / f"{part}.parquet", results.path / "bases" / f"{part}.safetensors"}
    expected |= {picture for id in ids for picture in results.pictures(id)}
    assert {path for path in results.path.rglob("*") if path.is_file()} == expected
