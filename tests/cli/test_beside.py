"""The commands on models that get pictures beside the photo, and at other sizes."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import families
import numpy as np
import pytest
import torch
from cli.commands import run
from networks import randomize
from PIL import Image
from pipelines import build_controlled, build_stable_diffusion
from single_files import save_as_one

import latentjac

pytest.importorskip("typer")


def saved(file: Path, seed: int) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    return file


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return saved(tmp_path / "photo.png", 0)


def test_what_a_controlnet_sees(photo, tmp_path) -> None:
    pipeline = build_controlled(tmp_path, diffusers.StableDiffusionControlNetPipeline)
    randomize(pipeline.unet).float()
    pipeline.save_pretrained(tmp_path / "model")
    edges = saved(tmp_path / "edges.png", 1)
    options = ["--model", tmp_path / "model", "--steps", 6, "--prompt", "a cat"]
    typed = ["--control", edges, "--control-strength", 0.5, "--out", tmp_path / "out"]
    done = run("invert", photo, *options, *typed)
    assert done.returncode == 0, done.stderr
    model = latentjac.load(tmp_path / "model")
    seen = model.conditioning("a cat", control=edges, control_strength=0.5)
    written = latentjac.Trajectory.load(tmp_path / "out" / "trajectory.safetensors")
    assert written.conditioning == seen
    typed_there = json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]
    assert (typed_there["control"], typed_there["control_strength"], typed_there["image"]) == (str(edges), 0.5, None)
    torch.testing.assert_close(
        written.samples[-1],
        latentjac.invert(model, photo, 6, conditioning=seen).samples[-1],
    )
    for wrong, message in (
        ([], "--control must be given since the network of"),
        (["--control", edges, "--image", edges], "--image must be left out since the network of"),
        (["--control", tmp_path / "none.png"], "--control must be a picture file, got"),
    ):
        done = run("invert", photo, *options, *wrong, "--out", tmp_path / "refused")
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_the_photo_is_completed_under_a_mask(photo, tmp_path) -> None:
    build_stable_diffusion(tmp_path, diffusers.StableDiffusionInpaintPipeline, in_channels=9).save_pretrained(
        tmp_path / "model"
    )
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 4)).save(mask)
    quick = ["--model", tmp_path / "model", "--steps", 6, "--out", tmp_path / "out"]
    done = run("invert", photo, *quick, "--inpaint-mask", mask)
    assert done.returncode == 0, done.stderr
    model = latentjac.load(tmp_path / "model")
    written = latentjac.Trajectory.load(tmp_path / "out" / "trajectory.safetensors")
    assert written.conditioning == model.conditioning(image=photo, mask=mask)
    done = run("invert", photo, *quick[:-1], tmp_path / "refused")
    assert (done.returncode, "--inpaint-mask must be given since" in done.stderr) == (2, True), done.stderr


def test_a_size(photo, tmp_path) -> None:
    build_stable_diffusion(tmp_path).save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", "--steps", 4]
    done = run("invert", photo, *options, "--size", "24x16", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["sample_shape"] == [4, 8, 12]
    done = run("invert", photo, *options, "--size", "17", "--out", tmp_path / "refused")
    assert (done.returncode, "--size must be of multiples of 2" in done.stderr) == (2, True), done.stderr


def test_a_single_file_with_its_configurations(photo, tmp_path) -> None:
    pipeline = build_stable_diffusion(tmp_path)
    pipeline.save_pretrained(tmp_path / "config")
    file = save_as_one(pipeline, tmp_path / "model.safetensors")
    options = ["--steps", 4, "--prompt", "a cat"]
    given = [photo, "--model", file, "--config", tmp_path / "config"]
    done = run("invert", *given, *options, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert written["model"]["identity"] == latentjac.load(pipeline).identity()
    assert written["arguments"]["config"] == str(tmp_path / "config")
    done = run("invert", photo, "--model", file, *options, "--out", tmp_path / "refused")
    assert (done.returncode, "--config must be the pipeline folder that" in done.stderr) == (2, True), done.stderr
    wrong = ["--model", tmp_path / "config", "--config", tmp_path / "config"]
    done = run("invert", photo, *wrong, *options, "--out", tmp_path / "refused")
    assert done.returncode == 2
    assert "--config must be left out unless --model is a single file, got" in done.stderr, done.stderr


def test_which_kind_of_picture_a_union_controlnet_sees(photo, tmp_path) -> None:
    families.SMALL["sdxl-controlnet-union"].source(tmp_path / "parts").save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", "--steps", 4, "--prompt", "a cat", "--control", photo]
    done = run("invert", photo, *options, "--control-mode", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = latentjac.Trajectory.load(tmp_path / "out" / "trajectory.safetensors")
    model = latentjac.load(tmp_path / "model")
    assert written.conditioning == model.conditioning("a cat", control=photo, control_mode=1)
    done = run("invert", photo, *options, "--control-mode", 9, "--out", tmp_path / "refused")
    assert (done.returncode, "--control-mode must be" in done.stderr) == (2, True), done.stderr


def test_a_picture_that_is_embedded(photo, tmp_path) -> None:
    families.SMALL["variation"].source(tmp_path / "parts").save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", "--steps", 4]
    other = saved(tmp_path / "other.png", 7)
    done = run("invert", photo, *options, "--image-prompt", other, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = latentjac.Trajectory.load(tmp_path / "out" / "trajectory.safetensors")
    assert written.conditioning == latentjac.load(tmp_path / "model").conditioning(image_prompt=other)
    done = run("invert", photo, *options, "--out", tmp_path / "refused")
    assert (done.returncode, "--image-prompt must be given" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("typed", [False, True])
def test_a_ready_embedding_is_for_python(photo, tmp_path, typed: bool) -> None:
    families.SMALL["kandinsky-2-2-decoder"].source(tmp_path / "parts").save_pretrained(tmp_path / "model")
    given = ["--image-prompt", photo] if typed else []
    done = run("invert", photo, "--model", tmp_path / "model", *given, "--steps", 4, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --image-prompt must be encoded by the model, but")
    assert "model.conditioning(image_embedding=...)" in done.stderr
