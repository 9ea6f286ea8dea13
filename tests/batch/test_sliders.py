"""Sliders of a run: what they give, what they are refused for, and how photos and seeds come to their points."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch.instant import items_of
from networks import build_scheduler, build_shallow_unet, rand, randomize
from PIL import Image
from pipelines import build_stable_diffusion

import latentjac
from latentjac import Slider, batch
from latentjac.batch import slider_task, tasks
from latentjac.batch.spec import read_spec
from latentjac.editing import AsIs, FromWords, HSpace, Linear, Transported

pytest.importorskip("pyarrow")
MADE: dict[str, Any] = {"num_inference_steps": 5, "t": 0.5}  # the inversion of the sliders' photo
OTHER: dict[str, Any] = {"num_inference_steps": 3, "grid": "own"}
VALUES = [-1.0, 0.5]


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    """Far from linear."""
    return latentjac.load(randomize(build_shallow_unet()).double(), build_scheduler())


@pytest.fixture(scope="module")
def place(model: latentjac.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos and a table with them and a seed, a mask, and three sliders."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(60, 196, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    rows = [f'{{"id": "photos/{i}.png", "photo": "photos/{i}.png"}}\n' for i in range(2)]
    (folder / "items.jsonl").write_text("".join([*rows, '{"id": "seed", "seed": 3}\n']))
    inside = np.zeros((8, 8), dtype=np.uint8)
    inside[2:6, 2:6] = 255
    Image.fromarray(inside).save(folder / "mask.png")
    point = latentjac.invert(model, folder / "photos" / "0.png", **MADE).at(0.5)
    basis = latentjac.local_basis(model, point, 3, tol=1e-3)
    kinds: dict[str, Any] = {
        "plain": (basis.v[0], {"method": Linear(num_steps=2)}),
        "carried": (basis.v[1], {"method": Linear(num_steps=2), "carry": Transported(k=3, tol=0.1)}),
        "features": (basis.u[0], {"method": HSpace()}),
    }
    for name, (direction, options) in kinds.items():
        Slider.make(model, point, direction, change=0.02, **options).save(folder / f"{name}.safetensors")
    return folder


def entry(place: Path, file: str, **keys: Any) -> dict[str, Any]:
    return {"slider": str(place / f"{file}.safetensors"), "values": VALUES, **keys}


def run_of(place: Path, folder: Path, model: latentjac.Model, spec: dict[str, Any], **options: Any) -> batch.Results:
    run = batch.Run({"items": str(place / "items.jsonl"), **spec}, folder, model=model, shard="1/1", **options)
    return run.run()


def rows_of(results: batch.Results, id: str, number: int = 1) -> dict[str, Any]:
    """The row of a slider of an item."""
    rows = [row for row in results.table().to_pylist() if (row["id"], row["step"]) == (id, "slider")]
    return rows[number - 1]


def check_row(row: dict[str, Any], applied: latentjac.editing.Applied) -> None:
    """Check that a row has the numbers of what a slider made."""
    assert row["status"] == "ok", row["error"]
    assert row["values"] == list(applied.values)
    assert row["distance"] == pytest.approx(list(applied.edit.distances), rel=1e-5)
    assert row["changes"] == pytest.approx(applied.changes.tolist(), rel=1e-5)
    assert row["calibrated"] == list(applied.calibrated)
    assert row["linear"] == pytest.approx(list(applied.linear or ()), rel=1e-5)
    assert row["linear_up_to"] == pytest.approx([applied.edit.linearity[0].radius])
    assert row["retained"] == (None if applied.retained is None else pytest.approx(applied.retained, rel=1e-5))
    leakage = applied.edit.leakage
    assert row["leakage"] == (None if leakage is None else pytest.approx(leakage.flatten().tolist(), rel=1e-4))


def check_pictures(drawn: list[Image.Image], expected: list[Image.Image]) -> None:
    for one, other in zip(drawn, expected, strict=True):
        assert abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_photos_are_as_apply_makes_them_one_at_a_time(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    sliders = [
        entry(place, "plain"),
        entry(place, "carried", mask=str(place / "mask.png"), values=0.5),
        entry(place, "carried", carry="as-is", calibrate=False),
        entry(place, "features", residual=False, values=1),
    ]
    found = run_of(place, tmp_path / "run", model, {"sliders": sliders}, batch_size=4)
    mask = Image.open(place / "mask.png")
    plain, carried, features = (Slider.load(place / f"{n}.safetensors") for n in ("plain", "carried", "features"))
    for i in range(2):
        photo = place / "photos" / f"{i}.png"
        point = latentjac.invert(model, photo, **MADE).at(0.5)
        applied = [
            plain.apply(model, photo, VALUES),
            carried.apply(model, photo, 0.5, mask=mask),
            carried.apply(model, photo, VALUES, carry=AsIs(), calibrate=False),
            features.apply(model, point),
        ]
        for number, each in enumerate(applied, 1):
            check_row(rows_of(found, f"photos/{i}.png", number), each)
        check_pictures(found.images(f"photos/{i}.png"), [image for each in applied for image in each.images])
    assert rows_of(found, "photos/0.png", 2)["retained"] is not None
    assert rows_of(found, "photos/0.png", 2)["leakage"] is not None


@pytest.mark.parametrize("asked", [{"invert": OTHER}, {"invert": MADE, "bases": {"t": 0.5, "k": 1, "tol": 0.1}}])
def test_the_inversion_is_that_of_the_slider_whatever_the_spec_has_for_others(
    asked: dict[str, Any], model: latentjac.Model, place: Path, tmp_path: Path
) -> None:
    spec = {**asked, "sliders": [entry(place, "plain", calibrate=False)]}
    found = run_of(place, tmp_path / "run", model, spec)
    applied = Slider.load(place / "plain.safetensors").apply(model, place / "photos" / "1.png", VALUES, calibrate=False)
    check_row(rows_of(found, "photos/1.png"), applied)


def test_seeds_are_at_the_t_of_the_slider(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {"sample": {"num_inference_steps": 4}, "sliders": [entry(place, "plain")]}
    found = run_of(place, tmp_path / "run", model, spec)
    generator = torch.Generator().manual_seed(3)
    top = latentjac.noise_point(model, num_inference_steps=4, generator=generator)
    level = top.schedule.level(t=Slider.load(place / "plain.safetensors").t)
    x = next(x for at, x in latentjac.diffusion.descend(model, top.sample, top.schedule, top.level, top.conditioning)
             if at == level)  # fmt: skip
    point = latentjac.Point(x, level, top.schedule, top.conditioning)
    applied = Slider.load(place / "plain.safetensors").apply(model, point, VALUES)
    check_row(rows_of(found, "seed"), applied)
    check_pictures(found.images("seed")[1:], applied.images)


@pytest.mark.parametrize(("asked", "times"), [({}, 2), ({"invert": MADE}, 1), ({"invert": OTHER}, 2)])
def test_photos_are_inverted_once_for_sliders_of_one_inversion(
    asked: dict[str, Any],
    times: int,
    model: latentjac.Model,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    real = latentjac.invert

    def counted(model: Any, pictures: Any, *rest: Any, **options: Any) -> Any:
        calls.append(len(pictures))
        return real(model, pictures, *rest, **options)

    monkeypatch.setattr(tasks, "invert", counted)
    monkeypatch.setattr(slider_task, "invert", counted)
    sliders = [entry(place, name, calibrate=False) for name in ("plain", "carried")]
    more = {} if asked else {"bases": {"t": 0.5, "k": 1, "tol": 0.1}}
    run_of(place, tmp_path / "a", model, {"items": str(place / "photos"), "sliders": sliders, **asked, **more})
    assert calls == [2] * times
    calls.clear()
    run_of(place, tmp_path / "b", model, {"items": str(place / "photos"), "sliders": sliders})
    assert calls == [2]


def test_the_result_does_not_depend_on_the_batch(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {"sample": {"num_inference_steps": 4}, "sliders": [entry(place, "plain"), entry(place, "carried")]}
    alone, together = (run_of(place, tmp_path / str(n), model, spec, batch_size=n).table().to_pylist() for n in (1, 4))
    for one, other in zip(alone, together, strict=True):
        for name in set(one) - {"seconds", "pictures", "part"}:
            near = isinstance(one[name], (float, list))
            assert other[name] == (pytest.approx(one[name], rel=1e-5, abs=1e-9) if near else one[name]), name


def test_a_change_out_of_reach_is_a_row_that_tells(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    """A tolerance that rounding alone exceeds."""
    from dataclasses import replace

    strict = replace(Slider.load(place / "plain.safetensors"), tolerance=1e-15)
    strict.save(tmp_path / "strict.safetensors")
    spec = {"items": str(place / "photos"), "sliders": [{"slider": str(tmp_path / "strict.safetensors")}]}
    found = run_of(place, tmp_path / "run", model, spec)
    row = rows_of(found, "1.png")
    assert row["status"] == "not converged"
    told = r"slider: values must have their change, got 1 changes the picture by 0\.\d+ instead of 0\.02"
    assert re.fullmatch(told, row["error"])
    assert row["calibrated"] == [False]
    assert len(found.images("1.png")) == 1
    assert found.status().not_converged == 2


def test_a_bad_photo_fails_alone(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    spec = {"items": [str(place / "photos" / "0.png"), str(tmp_path / "bad.png")], "sliders": [entry(place, "plain")]}
    rows = run_of(place, tmp_path / "run", model, spec).table().to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "skipped"]


def test_pictures_in_tar_files_and_on_the_page(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {"items": str(place / "photos"), "pictures": "tar", "sliders": [entry(place, "plain")]}
    found = run_of(place, tmp_path / "run", model, spec)
    expected = Slider.load(place / "plain.safetensors").apply(model, place / "photos" / "1.png", VALUES)
    check_pictures(batch.open(found.path).images("1.png"), expected.images)
    names = rows_of(found, "1.png")["pictures"]
    assert [name.partition(".")[2] for name in names] == ["slider1_-1.png", "slider1_+0.5.png"]


def test_a_run_goes_on_and_refuses_another_slider(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    """The path of a file may change, what is in it may not."""
    items, folder = items_of(tmp_path, 2), tmp_path / "run"
    file = tmp_path / "one.safetensors"
    shutil.copy(place / "plain.safetensors", file)
    spec = {"items": str(items), "sample": {"num_inference_steps": 3}, "sliders": [{"slider": str(file)}]}
    first = run_of(place, folder, model, spec).table()
    items_of(tmp_path, 3)
    spec["sliders"] = [{"slider": str(file.rename(tmp_path / "two.safetensors"))}]
    both = run_of(place, folder, model, spec).table()
    assert both.slice(0, len(first)).equals(first)
    assert both.column("id").to_pylist() == ["item 0"] * 2 + ["item 1"] * 2 + ["item 2"] * 2
    shutil.copy(place / "carried.safetensors", tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"where sliders\[0\]\.digest was"):
        run_of(place, folder, model, spec)
    spec["sliders"] = []
    with pytest.raises(ValueError, match=r"sliders\[0\]\.slider|sliders was|sliders\[0\]\.digest was"):
        run_of(place, folder, model, spec)


def test_a_plan_counts_sliders(model: latentjac.Model, place: Path, tmp_path: Path) -> None:
    spec = {
        "items": str(place / "photos"),
        "sliders": [entry(place, "plain"), entry(place, "features", name="smile", values=1)],
    }
    plan = batch.Run(spec, tmp_path / "run", model=model, shard="1/1").plan()
    assert (plan.rows, plan.pictures, plan.bases) == (6, 6, 0)
    assert "  slider 2, smile, at t = 0.5" in str(plan)
    assert not (tmp_path / "run").exists()


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"slider": None}, TypeError, r"'sliders\[0\].slider' must be a str, got NoneType"),
    ({"slider": "no.safetensors"}, ValueError, r"'sliders\[0\].slider' must be a saved slider, got '.*no.safetensors'"),
    ({"slider": "mask.png"}, ValueError, r"'sliders\[0\].slider' must be a saved slider, got '.*mask.png': .*end in"),
    ({"name": 1}, TypeError, r"'sliders\[0\].name' must be a str, got int"),
    ({"value": 1}, ValueError, r"keys must be among \[.*'values'.*\], got 'sliders\[0\].value'"),
    ({"values": [0.5, 2]}, ValueError, r"'sliders\[0\].values' must be a number in \[-1, 1\], got 2"),
    ({"values": [0.5, 0.5]}, ValueError, r"'sliders\[0\].values' must be different values"),
    ({"values": "1"}, TypeError, r"'sliders\[0\].values' must be a number, got str"),
    ({"calibrate": "no"}, TypeError, r"'sliders\[0\].calibrate' must be a bool, got str"),
    ({"residual": 1}, TypeError, r"'sliders\[0\].residual' must be a bool, got int"),
    ({"carry": "along"}, ValueError, r"'sliders\[0\].carry.name' must be one of \['as-is'.*\], got 'along'"),
    ({"carry": 1}, TypeError, r"'sliders\[0\].carry' must be a name or a mapping with one, got int"),
    ({"carry": {"name": "as-is", "k": 2}}, ValueError, r"keys must be among \['name'\], got 'sliders\[0\].carry.k'"),
    ({"carry": {"name": "transported", "k": 0}}, ValueError, r"'sliders\[0\].carry.k' must be at least 1, got 0"),
    ({"carry": "transported"}, ValueError, r"'sliders\[0\].carry' must be one that the slider was made for, AsIs\(\)"),
    ({"carry": "words"}, TypeError, r"'sliders\[0\].carry.prompt' must be a str, got NoneType"),
    ({"mask": "no.png"}, FileNotFoundError, r"'sliders\[0\].mask' must be"),
    ({"mask": "plain.safetensors"}, ValueError, r"'sliders\[0\].mask' must be a picture file"),
]


@pytest.mark.parametrize(("keys", "kind", "message"), REFUSED, ids=[str(keys)[:50] for keys, *_ in REFUSED])
def test_refusals_name_the_key(
    keys: dict[str, Any], kind: type[Exception], message: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(kind, match=rf"spec: .*{message}"):
        read_spec({"items": "photos", "sliders": [{"slider": "plain.safetensors", **keys}]})


def test_sliders_are_a_list(place: Path) -> None:
    with pytest.raises(TypeError, match="spec: 'sliders' must be a list of mappings, got dict"):
        read_spec({"items": "photos", "sliders": entry(place, "plain")})


def test_defaults_are_those_of_apply(place: Path) -> None:
    (found,) = read_spec({"items": "photos", "sliders": [{"slider": str(place / "carried.safetensors")}]}).sliders
    assert (found.values, found.calibrate, found.built(), found.mask, found.residual) == (
        (1.0,),
        True,
        None,
        None,
        True,
    )
    assert (found.name, found.method, found.t) == ("carried", "linear", pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"carry": {"name": "transported", "k": 193}}, "carry.k must be at most 192, got 193"),
        ({"carry": {"name": "words", "prompt": "a smile"}}, "takes no prompt|prompt"),
        ({"mask": "large.png"}, "mask must be 8x8 pixels, as the model's are, got 9x9"),
        ({"mask": "all.png"}, "mask must mark a part of the picture, got all of it"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before(
    keys: dict[str, Any], message: str, model: latentjac.Model, place: Path, tmp_path: Path
) -> None:
    Image.new("L", (9, 9), 255).save(tmp_path / "large.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "all.png")
    keys = {name: str(tmp_path / value) if name == "mask" else value for name, value in keys.items()}
    spec = {"items": str(place / "photos"), "sliders": [entry(place, "carried", **keys)]}
    with pytest.raises(ValueError, match=rf"^spec: 'sliders\[0\]' must fit the model: .*({message})"):
        run_of(place, tmp_path / "run", model, spec)
    assert not (tmp_path / "run").exists()


def test_a_slider_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    other = latentjac.load(build_shallow_unet(), build_scheduler())
    spec = {"items": str(place / "photos"), "sliders": [entry(place, "plain")]}
    with pytest.raises(ValueError, match=r"'sliders\[0\]' must fit the model: .*which the slider was made with, got"):
        run_of(place, tmp_path / "run", other, spec)


def test_words_and_prompts(tmp_path: Path) -> None:
    """Photos with a prompt are inverted under it; words are looked up at each photo."""
    model = latentjac.load(build_stable_diffusion(tmp_path))
    for i in range(2):
        pixels = np.random.default_rng(i).integers(60, 196, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "items.jsonl").write_text('{"photo": "0.png", "prompt": "a"}\n{"photo": "1.png"}\n')
    point = latentjac.invert(model, tmp_path / "0.png", **MADE).at(0.5)
    made = Slider.make(model, point, rand(*model.sample_shape), change=0.01, method=Linear(num_steps=1))
    plain = {"slider": str(made.save(tmp_path / "slider.safetensors")), "calibrate": False}
    spec = {"sliders": [plain, {**plain, "carry": {"name": "words", "prompt": "b", "away": "c"}}]}
    found = run_of(tmp_path, tmp_path / "run", model, spec)
    for id, prompt in (("0.png", "a"), ("1.png", None)):
        at = latentjac.invert(model, tmp_path / id, prompt=prompt, **MADE).at(0.5)
        for number, carry in ((1, None), (2, FromWords("b", "c"))):
            applied = made.apply(model, at, carry=carry, calibrate=False, photo=tmp_path / id)
            assert rows_of(found, id, number)["changes"] == pytest.approx(applied.changes.tolist(), rel=1e-3)
    assert not math.isclose(rows_of(found, "0.png", 1)["changes"][0], rows_of(found, "0.png", 2)["changes"][0])
