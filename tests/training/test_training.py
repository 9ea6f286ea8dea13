"""The training scripts on a network of toy size: they stop, resume and write a model that loads by its name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
import train_avatars
import train_faces
from PIL import Image
from safetensors import safe_open

import latentjac
from latentjac.models import loading

TOY = ["--size", "16", "--widths", "16", "16", "32", "32", "--batch", "4", "--device", "cpu", "--precision", "fp32"]


def steps_of(work: Path) -> int:
    with safe_open(work / "state.safetensors", "pt") as f:
        return int(f.metadata()["steps"])


def test_avatars_are_trained_resumed_and_loaded_by_name(tmp_path, monkeypatch, capsys) -> None:
    work, shelf = tmp_path / "work", tmp_path / "builtin"
    monkeypatch.setattr(loading, "_BUILTIN", shelf)
    assert "avatars" not in latentjac.builtin_models()
    plateau = [*TOY, "--work", str(work), "--minutes", "0"]
    train_avatars.main(plateau)
    assert steps_of(work) == 1
    train_avatars.main(plateau)
    assert steps_of(work) == 2
    train_avatars.main([*TOY, "--work", str(work), "--cool-down", "2", "--export", str(shelf / "avatars")])
    assert steps_of(work) == 2
    assert "resumed: 2 steps, 8 images" in capsys.readouterr().out
    assert latentjac.builtin_models() == ["avatars"]
    model = latentjac.load("avatars")
    assert model.sample_shape == (3, 16, 16)
    assert torch.isfinite(latentjac.sample(model, num_inference_steps=2, output_type="pt")).all()


def test_faces_are_trained_on_the_photos_of_a_zip(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as z:
        for i in range(12):
            photo = io.BytesIO()
            Image.new("RGB", (16, 16), (20 * i, 90, 120)).save(photo, "JPEG")
            z.writestr(f"{i:05d}.jpg", photo.getvalue())
    arguments = [*TOY, "--data", str(tmp_path / "photos.zip"), "--work", str(tmp_path / "work")]
    train_faces.main([*arguments, "--cool-down", "1", "--export", str(tmp_path / "model")])
    assert latentjac.load(tmp_path / "model").sample_shape == (3, 16, 16)
    with pytest.raises(SystemExit):
        train_faces.main([*arguments, "--batch", "100"])


def test_batches_of_avatars_depend_on_the_seed_alone() -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(next(train_avatars.batches(4, 32, torch.device("cpu"))))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (4, 3, 32, 32)
    assert drawn[0].min() < -0.5
    assert drawn[0].max() <= 1
