"""The slider commands from end to end, on tiny networks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run
from PIL import Image
from pipelines import build_stable_diffusion

import latentjac
from latentjac.editing import AsIs, FromWords, Transported

pytest.importorskip("typer")

QUICK = ("--steps", 4, "--t", 0.5, "--tol", 0.01, "--change", 0.02, "--method", "linear")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for seed, name in enumerate(("one.png", "two.png")):
        pixels = np.random.default_rng(seed).integers(60, 196, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        made.append(folder / name)
    return made


@pytest.fixture(scope="module")
def made(tiny_folder, photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "slider"
    done = run("slider", "make", photos[0], "--direction", 2, "--model", tiny_folder, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "an RMS change of 0.02 at both ends" in done.stdout
    return out


def test_make_writes_a_slider_that_python_takes(made: Path, tiny_folder, photos) -> None:
    model = latentjac.load(tiny_folder)
    slider = latentjac.Slider.load(made / "slider.safetensors", model)
    basis = latentjac.LocalBasis.load(made / "basis.safetensors")
    assert abs(float((slider.direction * basis.v[1]).sum())) == pytest.approx(1, abs=1e-5)
    assert slider.changes == pytest.approx((0.02, 0.01, 0.01, 0.02), abs=0.02 * 0.02)
    assert slider.carry == AsIs()
    assert slider.others is not None
    record = json.loads((made / "run.json").read_text())
    assert record["slider"]["distances"] == list(slider.distances)
    assert {"sheet.png", "index.html"} <= {path.name for path in made.iterdir()}
    page = (made / "index.html").read_text()
    assert "sheet.png" in page
    assert re.findall('data-distance="([^"]*)"', page) == [str(i / 4) for i in range(-4, 5)]
    assert "mixed from" not in page


def test_apply_changes_all_photos_alike(made: Path, tiny_folder, photos, tmp_path) -> None:
    values = ["--values", "-1,0,0.5", "--model", tiny_folder]
    done = run("slider", "apply", made / "slider.safetensors", *photos, *values, "--out", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    for entry in json.loads((tmp_path / "all" / "run.json").read_text())["applied"]["photos"]:
        assert entry["changes"] == pytest.approx([0.02, 0, 0.01], abs=0.02 * 0.02)
    names = {f"photo{i}_{value}.png" for i in (1, 2) for value in ("-1", "+0", "+0.5")}
    assert {"sheet.png", *names} <= {path.name for path in (tmp_path / "all").iterdir()}
    unchanged = np.asarray(Image.open(tmp_path / "all" / "photo1_+0.png")).astype(int)
    fitted = np.asarray(latentjac.prepare_image(photos[0], 16).image).astype(int)
    assert np.abs(unchanged - fitted).max() <= 1  # with the residual, 0 is the photo
    page = (tmp_path / "all" / "index.html").read_text()
    assert page.count('<div class="lj-strip"') == page.count('<figure class="lj-frame lj-original">') == 2
    assert {"-1.0", "0.0", "0.5"} < set(re.findall('data-distance="([^"]*)"', page))

    plain = run("slider", "apply", made / "slider.safetensors", photos[1], *values, "--no-calibrate",
                "--no-residual", "--out", tmp_path / "plain")  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    slider = latentjac.Slider.load(made / "slider.safetensors")
    (entry,) = json.loads((tmp_path / "plain" / "run.json").read_text())["applied"]["photos"]
    assert entry["distances"] == pytest.approx([slider.distance_for(value) for value in (-1, 0, 0.5)])


def test_saved_bases_pairs_and_masks(made: Path, tiny_folder, photos, tmp_path) -> None:
    inside = np.zeros((16, 16), dtype=np.uint8)
    inside[4:10, 4:10] = 255
    Image.fromarray(inside).save(tmp_path / "mask.png")
    common = ["--model", tiny_folder, "--change", 0.02, "--method", "linear"]
    saved = ["--basis", made / "basis.safetensors", "--mask", tmp_path / "mask.png", "--carry", "transported"]
    done = run("slider", "make", photos[1], *common, *saved, "--out", tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    assert "outside the mask" in done.stdout
    slider = latentjac.Slider.load(tmp_path / "saved" / "slider.safetensors")
    assert slider.carry == Transported()
    assert slider.mask is not None
    pair = ["--before", photos[0], "--after", photos[1], "--steps", 4, "--t", 0.5]
    done = run("slider", "make", photos[0], *common, *pair, "--out", tmp_path / "pair")
    assert done.returncode == 0, done.stderr
    model = latentjac.load(tiny_folder)
    path = latentjac.invert(model, [latentjac.prepare_image(p, 16).image for p in photos], 4, t=0.5)
    expected = latentjac.editing.pair_direction(*path.at(0.5).split())
    found = latentjac.Slider.load(tmp_path / "pair" / "slider.safetensors").direction
    assert float((found * expected).sum()) == pytest.approx(1, abs=1e-5)


def test_words(photos, tmp_path) -> None:
    build_stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    words = ["--from-words", "a cat", "--away", "a dog", "--carry", "words"]
    common = ["--model", tmp_path / "model", "--steps", 4, "--t", 0.5, "--method", "linear", "--change", 0.003]
    done = run("slider", "make", photos[0], *common, *words, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    slider = latentjac.Slider.load(tmp_path / "out" / "slider.safetensors")
    assert slider.carry == FromWords("a cat", "a dog")
    applied = ["--model", tmp_path / "model", "--values", "1", "--out", tmp_path / "applied"]
    done = run("slider", "apply", tmp_path / "out" / "slider.safetensors", photos[1], *applied)
    assert done.returncode == 0, done.stderr


REFUSED = [
    (("--direction", "1,2"), "--direction must be one direction, got '1,2'"),
    (("--away", "a cat"), "--away must be left out without --from-words, got 'a cat'"),
    (("--carry", "words"), "--carry must be as-is or transported without --from-words, got words"),
    (("--before", "one.png"), "--after must be given with the other picture of the pair"),
    (("--from-words", "x", "--basis", "b.safetensors"), "--from-words must be left out with --basis, got x"),
    (("--from-words", "x", "--method", "h-space"), "--method must be guidance, linear or geodesic"),
    (("--from-words", "x"), "--from-words must be left out"),
]


@pytest.mark.parametrize(("typed", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_refused(made: Path, photos, tiny_folder, tmp_path, monkeypatch, typed, message) -> None:
    monkeypatch.chdir(photos[0].parent)
    (tmp_path / "b.safetensors").touch()
    typed = [tmp_path / value if value == "b.safetensors" else value for value in typed]
    done = run("slider", "make", photos[0], "--model", tiny_folder, *typed, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr.splitlines()[-1]


def test_a_slider_of_another_model_is_refused(made: Path, photos, tmp_path) -> None:
    done = run("slider", "apply", made / "slider.safetensors", photos[0], "--model", "avatars", "--out", tmp_path / "x")
    assert done.returncode == 2
    assert "--model must be" in done.stderr
    assert "which the slider was made with, got 'avatars'" in done.stderr
