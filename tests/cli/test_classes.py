"""The commands on a model with classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.commands import run
from diffusers import DDPMPipeline
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac

pytest.importorskip("typer")


def test_a_class_label(tmp_path: Path) -> None:
    folder, photo = tmp_path / "model", tmp_path / "photo.png"
    DDPMPipeline(unet=build_shallow_unet(16, num_class_embeds=4), scheduler=build_scheduler()).save_pretrained(folder)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(photo)
    quick = ["--model", folder, "--steps", 8, "--t", 0.5, "--out", tmp_path / "basis", "-k", 2]
    done = run("basis", photo, *quick, "--class-label", 2)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "basis" / "run.json").read_text())["arguments"]["class_label"] == 2
    model = latentjac.load(folder)
    point = latentjac.invert(model, photo, 8, class_label=2, t=0.5).at(0.5)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latentjac.LocalBasis.load(tmp_path / "basis" / "basis.safetensors").s, basis.s)

    small = ["--model", folder, "--small", "--levels", "0.9,0.3", "--class-label", 2, "--out", tmp_path / "study"]
    done = run("study", "linearity", *small)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "study" / "run.json").read_text())["settings"]["class_label"] == 2

    for label, message in (([], "must be given since model "), (["--class-label", 4], "must be in [0, 3], ")):
        done = run("basis", photo, *quick[:-3], tmp_path / "refused", *label)
        assert done.returncode != 0
        assert f"--class-label {message}" in done.stderr
