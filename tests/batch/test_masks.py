"""Masks of a run: what they give is what the functions give for one photo at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet, randomize
from PIL import Image

import latentjac
from latentjac import Slider, batch
from latentjac.batch.ray_batches import blocks_of, items_in
from latentjac.batch.samples import samples_of
from latentjac.batch.spec import read_spec
from latentjac.batch.stored import pictures_of
from latentjac.editing import Linear, Mask, masked_basis

pytest.importorskip("pyarrow")
MADE: dict[str, Any] = {"num_inference_steps": 4}
BASES: dict[str, Any] = {"t": 0.5, "k": 2, "tol": 1e-2}
EDIT: dict[str, Any] = {"method": "linear", "distance": [-2, 2], "num_steps": 2}
BOXES = {"left": np.s_[:, :4], "top": np.s_[:3, :], "middle": np.s_[2:6, 2:6]}


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(randomize(build_shallow_unet()).double(), build_scheduler())


def draw(place: Path, box: Any, size: tuple[int, int] = (8, 8)) -> None:
    inside = np.zeros(size, dtype=np.uint8)
    inside[box] = 255
    Image.fromarray(inside).save(place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos and a seed with masks of their own: of the model's size, of the photo's, and of another."""
    folder = tmp_path_factory.mktemp("place")
    for name, box in BOXES.items():
        draw(folder / f"{name}.png", box)
    draw(folder / "wide.png", np.s_[:, 4:8], (16, 20))  # 2 to 10 of the photo's 20 columns are cut off
    draw(folder / "other.png", np.s_[:5, :], (10, 10))
    rows = []
    for i, (mask, size) in enumerate((("left.png", (8, 8)), ("wide.png", (16, 20)), ("other.png", (8, 8)))):
        pixels = np.random.default_rng(i).integers(60, 196, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append({"id": str(i), "photo": f"{i}.png", "face": mask})
    rows += [{"id": "seed", "seed": 3, "face": "top.png"}, {"id": "none", "seed": 4}]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run_of(place: Path, folder: Path, model: latentjac.Model, spec: dict[str, Any], **options: Any) -> batch.Results:
    whole = {"items": str(place / "items.jsonl"), "invert": MADE, "sample": MADE, **spec}
    return batch.Run(whole, folder, model=model, shard="1/1", **options).run()


def row_of(results: batch.Results, id: str, step: str) -> dict[str, Any]:
    (row,) = (row for row in results.rows(id) if row["step"] == step)
    return row


def check_same(results: batch.Results, id: str, edit: latentjac.Edit) -> None:
    """Check that the row and the pictures of an edit are those that the function gives."""
    row = row_of(results, id, "edit")
    assert row["status"] == "ok", row["error"]
    assert edit.leakage is not None
    assert row["leakage"] == pytest.approx(edit.leakage.flatten().tolist(), rel=1e-4)
    assert row["linear_up_to"] == pytest.approx([found.radius for found in edit.linearity or ()], rel=1e-4)
    for one, other in zip(results.images(id)[-len(edit.images) :], edit.images, strict=True):
        assert abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def inside_of(box: Any) -> torch.Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[box] = True
    return mask


def test_one_mask_for_all_items(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    mask = str(place / "middle.png")
    spec = {"bases": {**BASES, "mask": mask}, "edits": [{**EDIT, "mask": mask, "null_rank": 2}]}
    found = run_of(place, tmp_path / "run", model, {"items": [str(place / f"{i}.png") for i in range(2)], **spec})
    inside = inside_of(BOXES["middle"])
    for i in range(2):
        photo = place / f"{i}.png"
        point = latentjac.invert(model, photo, **MADE).at(0.5)
        generator = torch.Generator().manual_seed(0)
        basis = masked_basis(model, point, inside, 2, tol=1e-2, generator=generator)
        saved = found.basis(str(photo))
        torch.testing.assert_close(saved.v, basis.v, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(saved.s, basis.s, rtol=1e-5, atol=0)
        assert (saved.metadata["mask_pixels"], saved.metadata["layer"]) == (16, "x0")
        method = Linear(layer="x0", num_steps=2)
        made = latentjac.edit(model, point, basis.v[0], [-2, 2], method=method, mask=Mask(inside, null_rank=2))
        check_same(found, str(photo), made)
    sample, *_ = samples_of(found, lambda id: None).live
    assert sample.strips[0].leakage == pytest.approx(row_of(found, sample.title, "edit")["leakage"])


def test_each_item_has_its_own(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    """That of a photo's size loses what the photo loses; one that does not fit, or is missing, is a row's error."""
    own = {"column": "face"}
    spec = {"bases": {**BASES, "mask": own}, "edits": [{**EDIT, "mask": own}]}
    found = run_of(place, tmp_path / "run", model, spec, batch_size=8)
    expected = {"0": inside_of(BOXES["left"]), "1": inside_of(np.s_[:, 1:3])}
    for id, inside in expected.items():
        point = latentjac.invert(model, place / f"{id}.png", **MADE).at(0.5)
        generator = torch.Generator().manual_seed(0)
        basis = masked_basis(model, point, inside, 2, tol=1e-2, generator=generator)
        torch.testing.assert_close(found.basis(id).v, basis.v, rtol=1e-5, atol=1e-5)
        method = Linear(layer="x0", num_steps=2)
        check_same(found, id, latentjac.edit(model, point, basis.v[0], [-2, 2], method=method, mask=inside))
    assert row_of(found, "seed", "edit")["status"] == "ok"
    assert found.rows("0")[0]["face"] == str(place / "left.png")
    for id, step, message in (
        ("2", "basis", "mask must be 8x8 pixels, as its photo is, or 8x8 pixels, as the model's are, got 10x10"),
        ("none", "basis", "mask must be a picture file, got none in column 'face'"),
    ):
        row = row_of(found, id, step)
        assert (row["status"], row["error"]) == ("error", message)
        assert [r["status"] for r in found.rows(id)] == ["ok", "error", "skipped"]


def test_measures_are_those_inside(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {
        "items": [str(place / "0.png")],
        "bases": {**BASES, "mask": str(place / "left.png")},
        "measures": {"effective_rank": {"probes": 2, "steps": 2}},
    }
    found = run_of(place, tmp_path / "run", model, spec)
    point = latentjac.invert(model, place / "0.png", **MADE).at(0.5)
    factor = inside_of(BOXES["left"]).double()[None, None]
    lin = latentjac.diffusion.linearization_at(model, point, "x0", mask=factor)
    rank = latentjac.effective_rank(lin, basis=found.basis(str(place / "0.png")), probes=2, steps=2)
    row = row_of(found, str(place / "0.png"), "effective_rank")
    assert row["participation"] == pytest.approx(rank.participation.value, rel=1e-5)


def test_sliders_take_the_masks_of_items(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    point = latentjac.invert(model, place / "0.png", t=0.5, **MADE).at(0.5)
    slider = Slider.make(model, point, point.sample[0], change=0.02, method=Linear(num_steps=2))
    file = slider.save(tmp_path / "slider.safetensors")
    entry = {"slider": str(file), "values": 0.5, "mask": {"column": "face"}}
    found = run_of(place, tmp_path / "run", model, {"sliders": [entry], "invert": None}, batch_size=8)
    for id, inside in (("0", inside_of(BOXES["left"])), ("1", inside_of(np.s_[:, 1:3]))):
        applied = slider.apply(model, place / f"{id}.png", 0.5, mask=inside)
        row = row_of(found, id, "slider")
        assert row["distance"] == pytest.approx(list(applied.edit.distances), rel=1e-5)
        assert row["leakage"] == pytest.approx(applied.edit.leakage.flatten().tolist(), rel=1e-4)
    with pytest.raises(ValueError, match=r"apply: mask must be one for all or 1 \(as many as points\), got 2"):
        slider.apply(model, [point], 0.5, mask=[None, None])


def test_a_plan_names_the_masks(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {"bases": {**BASES, "mask": {"column": "face"}}, "edits": [{**EDIT, "mask": str(place / "left.png")}]}
    run = batch.Run({"items": str(place / "items.jsonl"), **spec}, tmp_path / "run", model=model, shard="1/1")
    plan = str(run.plan())
    assert "  basis at t = 0.5, layer x0, mask of column 'face'\n" in plan
    assert "  edit 1 at t = 0.5, layer x0, mask left.png\n" in plan


def test_another_mask_is_another_run(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    """The path of its file may change, what is in it may not; a row whose mask changed is another item."""
    table, mask = tmp_path / "items.jsonl", tmp_path / "mask.png"
    draw(mask, BOXES["top"])
    draw(tmp_path / "a.png", BOXES["top"])
    table.write_text('{"seed": 1, "face": "a.png"}')
    spec = {"items": str(table), "bases": {**BASES, "mask": {"column": "face"}}, "edits": [{**EDIT, "mask": str(mask)}]}
    folder = tmp_path / "run"
    run_of(place, folder, model, spec)
    spec["edits"] = [{**EDIT, "mask": str(mask.rename(tmp_path / "moved.png"))}]
    assert batch.Run({**spec, "sample": MADE, "invert": MADE}, folder, model=model, shard="1/1").plan().left == 0
    draw(tmp_path / "moved.png", BOXES["left"])
    with pytest.raises(ValueError, match=r"where edits\[0\]\.mask\.digest was"):
        run_of(place, folder, model, spec)
    draw(tmp_path / "moved.png", BOXES["top"])
    table.write_text('{"seed": 1, "face": "b.png"}')
    with pytest.raises(ValueError, match="with another photo, prompt, seed, class or mask"):
        run_of(place, folder, model, spec)


def test_workers_of_ray_find_the_masks(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {"items": str(place / "items.jsonl"), "bases": {**BASES, "mask": {"column": "face"}}}
    made = batch.Run(spec, tmp_path / "run", model=model, shard="1/1")
    (block,) = blocks_of(made.items, [0, 4], lambda item: 1, 4)
    items, _ = items_in(block, pictures_of(made.spec.items, made.spec.root), made.spec.mask_columns)
    assert items is not None
    assert [item.masks["face"] for item in items] == [place / "left.png", None]
    assert [item.digest for item in items] == [item.digest for item in made.items.at([0, 4])]


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"edits": [{**EDIT, "mask": "no.png"}]}, FileNotFoundError, r"'edits\[0\].mask' must be"),
    ({"edits": [{**EDIT, "mask": "items.jsonl"}]}, ValueError, r"'edits\[0\].mask' must be a picture file"),
    ({"edits": [{**EDIT, "mask": 1}]}, TypeError, r"'edits\[0\].mask' must be a picture file or a mapping .*got int"),
    (
        {"edits": [{**EDIT, "mask": {"colunm": "a"}}]},
        ValueError,
        r"got 'edits\[0\].mask.colunm'; did you mean 'column'",
    ),
    ({"edits": [{**EDIT, "mask": {}}]}, TypeError, r"'edits\[0\].mask.column' must be a str, got NoneType"),
    ({"edits": [{**EDIT, "null_rank": 2}]}, ValueError, r"'edits\[0\].mask' must be given with 'edits\[0\].null_rank'"),
    (
        {"edits": [{**EDIT, "mask": "top.png", "null_rank": 1, "null_energy": 0.5}]},
        ValueError,
        r"'edits\[0\].null_rank' and null_energy must not both be given",
    ),
    (
        {"edits": [{**EDIT, "mask": "top.png", "null_rank": -1}]},
        ValueError,
        r"'edits\[0\].null_rank' must be at least 0",
    ),
    (
        {"edits": [{"method": "h-space", "mask": "top.png", "null_rank": 1}]},
        ValueError,
        r"'edits\[0\].null_rank' must be left out with method 'h-space'",
    ),
    ({"bases": {**BASES, "layer": "mid", "mask": "top.png"}}, ValueError, r"'bases.layer' must be 'x0' or 'eps' with"),
    ({"bases": {**BASES, "mask": []}}, TypeError, r"'bases.mask' must be a picture file or a mapping"),
]


@pytest.mark.parametrize(("keys", "kind", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refusals_name_the_key(
    keys: dict[str, Any], kind: type[Exception], message: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(kind, match=rf"spec: .*{message}"):
        read_spec({"items": "items.jsonl", "bases": BASES, **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"edits": [{**EDIT, "mask": "other.png"}]}, r"'edits\[0\]' must fit the model: mask must be 8x8 pixels"),
        ({"edits": [{**EDIT, "mask": "top.png", "null_rank": 999}]}, r"'edits\[0\]' .* at most the 120 values outside"),
        ({"edits": [{**EDIT, "mask": "all.png"}]}, r"'edits\[0\]' .*must mark a part of the picture, got all"),
        (
            {"bases": {**BASES, "k": 100, "mask": "top.png"}},
            r"'bases' must fit the model: .*at most the 72 values inside",
        ),
    ],
)
def test_what_does_not_fit_is_seen_before_anything_starts(
    keys: dict[str, Any], message: str, model: latentjac.Model, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    draw(place / "all.png", np.s_[:])
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match=message):
        run_of(place, tmp_path / "run", model, {"bases": BASES, **keys})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("fase", r"'edits\[0\].mask.column' must name one of their own columns \['face', 'weight'\], got 'fase'"),
        ("weight", r"'edits\[0\].mask.column' must name a column of text, got 'weight', which is of double"),
    ],
)
def test_columns_of_masks_are_there(column: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"seed": 1, "face": "a.png", "weight": 0.5}')
    spec = {"items": str(tmp_path / "items.jsonl"), "bases": BASES, "edits": [{**EDIT, "mask": {"column": column}}]}
    with pytest.raises(ValueError, match=f"items: {message}"):
        batch.Run(spec, tmp_path / "run", shard="1/1")
