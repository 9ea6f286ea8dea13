"""The commands from end to end, on a tiny network."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from cli.commands import run
from diffusers import DDIMPipeline
from networks import build_scheduler, build_shallow_unet
from PIL import Image
from report.parsed import Page

import latentjac
from latentjac.cli.photo import fit_mask, open_mask, read_photo
from latentjac.cli.refusals import Refusal

pytest.importorskip("typer")

INVERTED = ["--steps", "6", "--tol", "0.01"]
QUICK = [*INVERTED, "--edit-steps", "2"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def demo(tiny_folder, photo, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "demo"
    done = run("demo", "--photo", photo, "--model", tiny_folder, "-k", 3, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    return done, out


def test_demo_writes_everything_and_says_where(demo) -> None:
    done, out = demo
    names = {"sheet.png", "spectrum.png", "directions.png", "basis.safetensors", "index.html", "run.json"}
    assert {p.name for p in out.iterdir()} == names
    assert all(name in done.stdout for name in names)
    assert "cropped from 40x30" in done.stdout
    assert "Then try" in done.stdout
    assert "inversion" in done.stderr  # the progress bar


def test_demo_pictures_are_not_trivial(demo) -> None:
    _, out = demo
    for name in ("sheet.png", "spectrum.png", "directions.png"):
        pixels = np.asarray(Image.open(out / name).convert("RGB")).astype(float)
        assert min(pixels.shape[:2]) > 100
        assert pixels.std() > 10


def test_run_record(demo) -> None:
    _, out = demo
    record = json.loads((out / "run.json").read_text())
    assert record["command"] == "demo"
    assert record["arguments"]["k"] == 3
    assert record["versions"]["torch"]
    assert len(record["basis"]["residuals"]) == 3
    assert max(record["basis"]["residuals"]) <= 0.01
    assert set(record["seconds"]) >= {"inverting the photo", "computing the local basis", "editing", "total"}
    assert latentjac.LocalBasis.load(out / "basis.safetensors").k == 3


def test_the_page_of_a_run_links_to_its_files(demo) -> None:
    _, out = demo
    page = Page((out / "index.html").read_text())
    assert {out / link for link in page.links} == set(out.iterdir())
    inside = [source for source in page.sources if source.startswith("data:")]
    assert {out / source for source in page.sources if source not in inside} == set(out.glob("*.png"))
    assert page.tags.count("input") == 3  # a slider a direction
    assert len(inside) == 3 * 9 + 1
    assert "latentjac demo --photo" in page.text
    assert "--edit-steps 2" in page.text


def test_edit_from_a_saved_basis(demo, tiny_folder, photo, tmp_path) -> None:
    _, out = demo
    basis = out / "basis.safetensors"
    done = run(
        "edit", photo, "--basis", basis, "--direction", "1,3", "--distance", "-1,2", "--model", tiny_folder,
        "--gif", "--frames", 3, "--out", tmp_path / "edit", "--edit-steps", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (tmp_path / "edit").glob("direction*.png")}
    assert names == {f"direction{i}_{d}.png" for i in (1, 3) for d in ("-1", "+2")}
    assert {p.name for p in (tmp_path / "edit").glob("*.gif")} == {"walk_direction1.gif", "walk_direction3.gif"}
    assert Image.open(tmp_path / "edit" / "walk_direction3.gif").n_frames == 4
    used = json.loads((tmp_path / "edit" / "run.json").read_text())["arguments"]
    own = latentjac.LocalBasis.load(basis).metadata  # of 6 steps and another t than the default
    assert (used["steps"], used["t"]) == (own["num_inference_steps"], own["t"]) == (6, 0.7)


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """White in the middle, of the size of the photo."""
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    picture = Image.new("L", (40, 30))
    picture.paste(255, (14, 10, 24, 18))
    picture.save(path)
    return path


@pytest.mark.parametrize(
    ("method", "distance", "options", "measured"),
    [
        ("guidance", "1", ["--reestimate", 1, "-k", 2], "overlaps"),
        ("linear", "1", ["--layer", "mid"], "path"),
        ("geodesic", "1", ["-k", 2, "--transport", "pseudoinverse"], "retained"),
        ("h-space", None, ["--inject", "point", "--asymmetric"], "feature_path"),
    ],
)
def test_every_method(tiny_folder, photo, tmp_path, method, distance, options, measured) -> None:
    done = run(
        "edit", photo, "--method", method, *(["--distance", distance] if distance else []), "--model", tiny_folder,
        "--out", tmp_path, *options, *(INVERTED if method == "h-space" else QUICK),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run.json").read_text())["edit"]
    assert record["method"] == method
    assert np.isfinite(record[measured]).all()
    assert (tmp_path / f"direction1_+{distance or '120'}.png").exists()
    assert ("feature" if method == "h-space" else "noise") + " standard deviations" in done.stdout


@pytest.mark.parametrize("choice", [["--null-rank", 2], ["--null-energy", 0.05]])
def test_a_masked_edit(tiny_folder, photo, mask, tmp_path, choice: list) -> None:
    done = run(
        "edit", photo, "--mask", mask, "--method", "linear", "--distance", "4", "--model", tiny_folder,
        "--out", tmp_path, *choice, *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    assert 0 < record["edit"]["leakage"][0][0] < 1
    assert "leakage" in done.stdout
    basis = latentjac.LocalBasis.load(tmp_path / "basis.safetensors")
    assert basis.metadata["layer"] == "x0"
    assert basis.metadata["mask_pixels"] == int((basis.u.abs().sum((0, 1)) > 0).sum())


def test_a_composed_edit_of_a_saved_basis(demo, tiny_folder, photo, tmp_path) -> None:
    basis = demo[1] / "basis.safetensors"
    done = run(
        "edit", photo, "--basis", basis, "--direction", "1,3", "--distance", "2,2", "--compose", "--model", tiny_folder,
        "--gif", "--frames", 2, "--out", tmp_path, "--edit-steps", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {"composed.png", "sheet.png", "walk_composed.gif", "index.html", "run.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert "directions 1, 3" in Page((tmp_path / "index.html").read_text()).text


def test_the_way_of_park2023(tiny_folder, photo, tmp_path) -> None:
    done = run(
        "edit", photo, "--compat", "park2023", "--gain", 2, "--direction", "1,2", "--steps", 8, "--edit-steps", 4,
        "--model", tiny_folder, "--out", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["edit"]["distances"] == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    assert record["edit"]["unit"] == "steps of guidance"
    assert np.unique(record["edit"]["gains"]) == [2.0]
    assert len(list(tmp_path.glob("direction2_*.png"))) == 9
    assert latentjac.LocalBasis.load(tmp_path / "basis.safetensors").metadata["stop"] == "park2023"
    page = Page((tmp_path / "index.html").read_text())
    assert "steps of guidance" in page.text


def test_a_mask_is_cropped_like_the_photo(photo, mask) -> None:
    picture = read_photo("PHOTO", photo, (9, 5, 29, 25))
    inside = fit_mask(open_mask(mask, picture), picture, (20, 20), (20, 20))
    expected = np.zeros((20, 20), dtype=bool)
    expected[5:13, 5:15] = True
    assert np.array_equal(inside.numpy(), expected)


def test_a_mask_of_the_models_size_is_not_cropped(photo, tmp_path) -> None:
    picture = read_photo("PHOTO", photo, (9, 5, 29, 25))
    drawn = Image.new("L", (16, 16))
    drawn.paste(255, (0, 0, 8, 16))
    drawn.save(tmp_path / "mask.png")
    mask = open_mask(tmp_path / "mask.png", picture)
    assert fit_mask(mask, picture, (16, 16), (16, 16))[:, :8].all()
    assert not fit_mask(mask, picture, (16, 16), (16, 16))[:, 8:].any()
    assert fit_mask(mask, picture, (8, 8), (16, 16))[:, :4].all()  # samples that are latents
    with pytest.raises(Refusal, match="or 20x20, as the model's are, got 16x16"):
        fit_mask(mask, picture, (20, 20), (20, 20))


def test_a_mask_of_another_size_is_refused(photo, tmp_path) -> None:
    Image.new("L", (8, 9)).save(tmp_path / "mask.png")
    picture = read_photo("PHOTO", photo, None)
    mask = open_mask(tmp_path / "mask.png", picture)
    sizes = "40x30 pixels, as the photo is, or 9x8 or 18x16, as the model's are, got 8x9"
    with pytest.raises(Refusal, match=f"--mask must be {sizes}"):
        fit_mask(mask, picture, (8, 9), (16, 18))
    assert fit_mask(mask, picture, (9, 8), (18, 16)).shape == (9, 8)


@pytest.mark.parametrize("crop", [[], ["--crop", "2,3,32,21"]])
def test_a_model_of_rectangles(photo, mask, tmp_path, crop: list) -> None:
    """The photo is cropped to the model's shape, and so are mask, sheet, page and GIF."""
    folder = tmp_path / "model"
    DDIMPipeline(unet=build_shallow_unet((12, 20)), scheduler=build_scheduler()).save_pretrained(folder)
    done = run(
        "edit", photo, "--mask", mask, "--method", "linear", "--distance", "4", "--model", folder, "--gif",
        "--frames", 3, "--out", tmp_path / "out", *crop, *QUICK,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("box (0, 3, 40, 27)" in done.stdout) == (not crop)
    assert "to 20x12" in done.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["sample_shape"] == [3, 12, 20]
    assert 0 < record["edit"]["leakage"][0][0] < 1
    assert Image.open(tmp_path / "out" / "direction1_+4.png").size == (20, 12)
    assert Image.open(tmp_path / "out" / "walk_direction1.gif").size == (427, 256)


def test_a_model_of_other_samples_than_pictures_is_refused(photo, tmp_path) -> None:
    network = build_shallow_unet(in_channels=4, out_channels=4)
    DDIMPipeline(unet=network, scheduler=build_scheduler()).save_pretrained(tmp_path / "model")
    done = run("invert", photo, "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert done.returncode
    assert "--model must be one of pictures" in done.stderr
    assert "4 channels and no autoencoder" in done.stderr


def test_basis_and_invert(tiny_folder, photo, tmp_path) -> None:
    done = run("basis", photo, "--model", tiny_folder, "-k", 2, "--steps", 6, "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b" / "basis.safetensors").exists()
    done = run("invert", photo, "--model", tiny_folder, "--steps", 6, "--out", tmp_path / "i")
    assert done.returncode == 0, done.stderr
    assert {"sheet.png", "reconstruction.png", "trajectory.safetensors", "index.html", "run.json"} == {
        p.name for p in (tmp_path / "i").iterdir()
    }
    assert "dB" in done.stdout


def test_info() -> None:
    done = run("info")
    assert done.returncode == 0, done.stderr
    assert "self-test" in done.stdout
    assert "FAIL" not in done.stdout
    assert "faces" in done.stdout


def test_python_m() -> None:
    command = [sys.executable, "-m", "latentjac", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == latentjac.__version__


def test_help_teaches() -> None:
    text = run("--help").stdout
    assert all(command in text for command in ("demo", "edit", "basis", "invert", "study", "info"))
    assert "noise" in run("demo", "--help").stdout
    text = run("edit", "--help").stdout
    assert all(word in text for word in ("guidance", "linear", "geodesic", "h-space", "--mask", "--compose"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edit", "missing.jpg"], "does not exist"),
        (["demo", "--photo", "missing.jpg"], "does not exist"),
        (["demo", "--crop", "1,2,3"], "--crop must be left,top,right,bottom"),
        (["demo", "--distance", "far"], "--distance must be"),
        (["demo", "--t", "60"], "fraction of T"),
        (["demo", "-k", "0"], "-k must be a whole number of at least 1, got 0"),
        (["demo", "--layer", "middle"], "nearest"),
        (["demo", "--steps", "0"], "--steps must be a whole number of at least 1, got 0"),
        (["demo", "--model", "nobody"], "--model must be a built-in name"),
        (["demo", "--device", "tpu9"], "--device must be"),
        (["edit", "PHOTO", "--direction", "0"], "--direction must be"),
        (["edit", "PHOTO", "--basis", "PHOTO"], ".safetensors"),
        (["demo", "--out", "PHOTO"], "which is a file"),
        (["edit", "PHOTO", "--mask", "missing.png", "--model", "TINY"], "does not exist"),
        (["edit", "PHOTO", "--method", "magic", "--model", "TINY"], "--method must be one of"),
        (["edit", "PHOTO", "--compat", "asyrp", "--model", "TINY"], "--compat must be park2023 or left out, got asyrp"),
        (["edit", "PHOTO", "--compat", "pullback"], "--compat must be park2023 or left out, got pullback"),
        (
            ["edit", "PHOTO", "--compat", "park2023", "--distance", "1"],
            "--distance must be left out with --compat park2023, got '1'",
        ),
        (
            ["edit", "PHOTO", "--null-rank", "2", "--model", "TINY"],
            "--null-rank must be left out unless --mask is given",
        ),
        (["edit", "PHOTO", "--frames", "1", "--model", "TINY"], "--frames must be at least 2, or 0 for none, got 1"),
        (["demo", "--gif", "--frames", "0"], "--frames must be at least 2, got 0"),
    ],
)
def test_mistakes_become_one_line(
    photo, tiny_folder, tmp_path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [{"PHOTO": str(photo), "TINY": str(tiny_folder)}.get(a, a) for a in arguments]
    if "--model" not in arguments and arguments[0] == "demo":
        arguments += ["--model", str(tiny_folder)]
    if "--steps" not in arguments:
        arguments += ["--steps", "4"]
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize("mistake", [["--layer", "no"], ["--crop", "1,2"], ["--distance", "nan"]])
def test_a_failed_run_keeps_the_old_record(tiny_folder, photo, tmp_path, mistake: list[str]) -> None:
    old = tmp_path / "run.json"
    old.write_text("{}")
    done = run("demo", "--photo", photo, "--model", tiny_folder, "--steps", 4, "--out", tmp_path, *mistake)
    assert done.returncode == 2
    assert old.read_text() == "{}"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_ctrl_c_ends_without_a_record(tiny_folder, photo, tmp_path, monkeypatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(latentjac, "edit", interrupted)
    done = run("demo", "--photo", photo, "--model", tiny_folder, "--out", tmp_path / "x", *QUICK)
    assert done.returncode == 130
    assert not (tmp_path / "x" / "run.json").exists()


def test_a_basis_of_another_model_is_refused(demo, photo, tmp_path) -> None:
    DDIMPipeline(unet=build_shallow_unet(12), scheduler=build_scheduler()).save_pretrained(tmp_path / "other")
    basis = demo[1] / "basis.safetensors"
    done = run("edit", photo, "--basis", basis, "--model", tmp_path / "other", "--out", tmp_path / "x")
    assert done.returncode == 2
    assert "--basis must be one of model" in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--steps", 7], "--steps must be 6, those of the basis, got 7"),
        (["--t", 0.3], "--t must be 0.7, that of the basis, got 0.3"),
        (["--tol", 0.01], "--tol must be left at 0.001 with --basis, got 0.01"),
        (["--seed", 1], "--seed must be left at 0 with --basis, got 1"),
    ],
)
def test_what_a_saved_basis_decides_is_not_asked_for(demo, photo, tiny_folder, tmp_path, option, message) -> None:
    basis = demo[1] / "basis.safetensors"
    done = run("edit", photo, "--basis", basis, "--model", tiny_folder, "--out", tmp_path / "x", *option)
    assert done.returncode == 2
    assert message in done.stderr
