"""The commands on a model with text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_files import FILE, saved
from cli.commands import run
from PIL import Image
from pipelines import build_stable_diffusion

import latentjac
from latentjac.studies import STUDIES

pytest.importorskip("typer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "model"
    build_stable_diffusion(tmp_path_factory.mktemp("tokenizer")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def test_what_is_written_is_what_python_gives(folder, photo, tmp_path) -> None:
    texts = ["--prompt", "a cat", "--edit-prompt", "a dog"]
    quick = ["--model", folder, "--steps", 8, "--t", 0.5, "--tol", 1e-3]
    walks = ["--direction", 2, "--distance", "-1,1", "--edit-steps", 2]
    done = run("edit", photo, *texts, *quick, *walks, "--out", tmp_path / "edit")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "edit" / "run.json").read_text())
    assert (record["arguments"]["prompt"], record["arguments"]["edit_prompt"]) == ("a cat", "a dog")
    model = latentjac.load(folder)
    point = latentjac.invert(model, photo, 8, "a cat", t=0.5).at(0.5)
    generator = torch.Generator().manual_seed(0)
    basis = latentjac.local_basis(model, point.with_prompt(model, "a dog"), 2, tol=1e-3, generator=generator)
    torch.testing.assert_close(latentjac.LocalBasis.load(tmp_path / "edit" / "basis.safetensors").s, basis.s)
    method = latentjac.editing.Guidance(num_steps=2, prompt="a dog")
    edit = latentjac.edit(model, point, basis.v[1], distance=(-1.0, 1.0), method=method, photo=photo)
    for name, image in zip(("direction2_-1.png", "direction2_+1.png"), edit.images, strict=True):
        written = np.asarray(Image.open(tmp_path / "edit" / name)).astype(int)
        assert np.abs(written - np.asarray(image)).max() <= 1

    done = run("basis", photo, *texts, *quick, "-k", 2, "--out", tmp_path / "basis")
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(latentjac.LocalBasis.load(tmp_path / "basis" / "basis.safetensors").s, basis.s)
    done = run("invert", photo, "--prompt", "a cat", "--model", folder, "--steps", 8, "--out", tmp_path / "invert")
    assert done.returncode == 0, done.stderr


def test_the_way_of_park2023_with_text(folder, photo, tmp_path) -> None:
    options = ["--model", folder, "--steps", 12, "--edit-steps", 4, "--edit-prompt", "a dog"]
    done = run("edit", photo, "--compat", "park2023", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("direction1_*.png"))) == 9


def test_a_study_of_text(folder, tmp_path, monkeypatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    prompts = ["a cat", "a dog", "the sky"]
    quick = ["--small", "--levels", "0.9,0.3", "-k", 2, *(part for text in prompts for part in ("--prompt", text))]
    done = run("study", "prompts", "--model", folder, *quick, "--out", tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "alone" / "run.json").read_text())
    assert record["settings"]["prompts"] == prompts
    assert record["finding"]["sentence"] in done.stdout
    assert min(Image.open(tmp_path / "alone" / "figure.png").size) > 300
    table = parquet.read_table(tmp_path / "alone" / "table.parquet")
    assert table.num_rows == 2 * (3 * 3 + 3)  # levels; samples and pairs of prompts, pairs of samples
    assert {*table["prompt"].to_pylist(), *table["other_prompt"].to_pylist()} == {"", *prompts}

    monkeypatch.setattr("latentjac.cli.study.STUDIES", {"prompts": STUDIES["prompts"]})
    done = run("study", "all", "--model", folder, *quick, "--out", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    assert parquet.read_table(tmp_path / "all" / "prompts" / "table.parquet").num_rows == table.num_rows


def test_a_prompt_for_a_model_without_text_is_refused(photo, tmp_path) -> None:
    done = run("basis", photo, "--edit-prompt", "a dog", "--steps", 4, "--out", tmp_path)
    assert done.returncode == 2
    assert "--edit-prompt must be left out since model 'faces' is not conditioned on text, got 'a dog'" in done.stderr


def test_adapters(folder, photo, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    pipeline = build_stable_diffusion(tmp_path)
    torch.manual_seed(1)
    pipeline.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(pipeline.unet)
    pipeline.save_lora_weights(tmp_path / "style", unet_lora_layers=layers)
    quick = ["--model", folder, "--steps", 4, "--prompt", "a cat"]
    done = run("invert", photo, *quick, "--lora", f"{tmp_path / 'style'}:0.5", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    identity = json.loads((tmp_path / "out" / "run.json").read_text())["model"]["identity"]
    assert identity == latentjac.load(folder, lora={tmp_path / "style": 0.5}).identity()
    assert identity != latentjac.load(folder).identity()
    done = run("invert", photo, *quick, "--lora", f"{tmp_path / 'nowhere'}:0.5", "--out", tmp_path / "none")
    assert done.returncode == 2
    assert "--lora must be a safetensors file or a folder with one" in done.stderr


def test_a_picture_as_a_prompt_by_an_adapter(folder, photo, tmp_path) -> None:
    where = saved(build_stable_diffusion, tmp_path / "made")
    given = ["--ip-adapter", f"{where / 'adapter' / FILE}:0.6", "--image-prompt", photo]
    done = run("invert", photo, "--model", folder, "--steps", 4, *given, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    identity = json.loads((tmp_path / "out" / "run.json").read_text())["model"]["identity"]
    assert identity == latentjac.load(folder, ip_adapter={where / "adapter" / FILE: 0.6}).identity()
    done = run("invert", photo, "--model", "faces", *given[:2], "--out", tmp_path / "none")
    assert done.returncode == 2
    assert "--ip-adapter must be left out for a pipeline without load_ip_adapter" in done.stderr
