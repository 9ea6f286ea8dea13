"""Every model that ships: small, in half precision, and with a card that is about these very weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import latentjac
from latentjac import models

BUILTIN = Path(models.__file__).parent / "builtin"
PARTS = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "transformer")]


@pytest.fixture(params=latentjac.builtin_models())
def folder(request) -> Path:
    return BUILTIN / request.param


def test_weights_are_small_and_in_half_precision(folder) -> None:
    (file,) = (folder / part for part in PARTS if (folder / part).exists())
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= 20e6
    with safe_open(file, "pt") as f:
        assert {str(f.get_tensor(name).dtype) for name in f.keys()} == {"torch.float16"}


def test_quality_was_measured_on_these_weights(folder) -> None:
    quality = json.loads((folder / "quality.json").read_text())
    assert quality["model_identity"] == latentjac.load(folder.name).identity()


def test_the_card_holds_numbers(folder) -> None:
    card = (folder / "README.md").read_text()
    block = card.partition("<!-- quality -->")[2].partition("<!-- /quality -->")[0]
    quality, training = (json.loads((folder / f"{name}.json").read_text()) for name in ("quality", "training"))
    asked = f"{quality['prompts']['prompts']} captions" if "prompts" in quality else f"{quality['samples']} samples"
    assert asked in block
    assert f"{training['images_seen']:,} {'avatars' if 'prompts' in quality else 'images'}" in block
