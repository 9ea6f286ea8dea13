"""The registry of small pipelines: it has every family, its page is up to date, and what the page measures is right."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from families import SMALL, example, uncovered
from family_checks import METHODS, default_error, measured
from family_rows.given import AWAY, OWN
from networks import few_tokens
from PIL import Image
from small_pipeline import Pretrained, by_chance

import latentjac
from latentjac.files import read_json
from latentjac.models import adapters
from latentjac.models.codec import media_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "families.md"
RESULTS = ROOT / "benchmarks" / "results" / "families.json"


def test_every_family_has_a_row() -> None:
    assert not uncovered()


def test_the_page_has_every_row_and_an_example_of_it() -> None:
    found = read_json("test", RESULTS)
    listed = {row["pipeline"]: row["family"] for row in found["rows"]}
    assert listed == {name: row.family for name, row in SMALL.items()}, "run benchmarks/check_families.py"
    page = PAGE.read_text()
    for row in found["rows"]:
        name = row["pipeline"]
        assert f"| {name} | {row['family']} |" in page, "run benchmarks/readme_tables.py"
        assert found["examples"][name] == example(name, folder=row["folder"] == "loads")
        assert f"### {name}\n\n```python\n{found['examples'][name]}\n```" in page


def test_what_the_page_says_is_as_good_as_it_has_to_be() -> None:
    for row in read_json("test", RESULTS)["rows"]:
        assert row["sample"] < 1e-4, row
        assert row["round trip dB"] > 40, row
        assert max(row["basis of mid"], row["basis of eps"]) < 1e-3, row
        assert row["edits"] == f"all {len(METHODS)}", row


def test_a_cheap_row_measures_what_the_page_says(tmp_path: Path) -> None:
    row = measured("dit", tmp_path)
    listed = next(row for row in read_json("test", RESULTS)["rows"] if row["pipeline"] == "dit")
    same = ("family", "network", "folder", "mid", "edits", "torch.func")
    assert {key: row[key] for key in same} == {key: listed[key] for key in same}
    assert row["sample"] < 1e-4
    assert row["round trip dB"] > 40
    assert max(row["basis of mid"], row["basis of eps"]) < 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_gives_the_picture_of_the_pipeline(name: str, tmp_path: Path) -> None:
    row = SMALL[name]
    source = row.source(tmp_path)
    assert default_error(row, source, row.load(source)) < 1e-4


def kind(name: str) -> tuple[str, bool]:
    row = SMALL[name]
    return getattr(adapters, row.family).network, "control" in row.given


# tests/models compares bases of these with dense Jacobians.
COMPARED = {
    *("UNet2DModel", "UNet2DConditionModel", "UNetMotionModel", "DiTTransformer2DModel", "PixArtTransformer2DModel"),
    *("SD3Transformer2DModel", "FluxTransformer2DModel", "Flux2Transformer2DModel", "ChromaTransformer2DModel"),
    *("SanaTransformer2DModel", "AuraFlowTransformer2DModel", "HunyuanDiT2DModel", "Lumina2Transformer2DModel"),
    *("CogView3PlusTransformer2DModel", "CogView4Transformer2DModel", "QwenImageTransformer2DModel"),
    *("ZImageTransformer2DModel", "WanTransformer3DModel", "StableAudioDiTModel"),
}
# Of the others and of those with a ControlNet, one row of a class is traced, which takes longest here.
TRACED = {kind(name): name for name in reversed(SMALL) if kind(name) not in {(each, False) for each in COMPARED}}


# Their networks know how many tokens a text has.
COUNTED = ("cogvideox", "audio-ldm")


def with_few_tokens(
    begin: Callable[..., latentjac.Point], model: latentjac.Model, conditioning: latentjac.Conditioning | None = None
) -> latentjac.Point:
    """A point of a short way, whose text is cut off once the network has seen all of it."""
    point = begin(model, num_inference_steps=3, conditioning=conditioning)
    whole = model.denoiser(point.conditioning).eps(point.sample, torch.tensor(point.timestep))
    assert whole.isfinite().all()
    return replace(point, conditioning=few_tokens(point.conditioning))


@pytest.mark.parametrize("name", SMALL)
def test_the_example_of_a_family_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SMALL[name].load(SMALL[name].source(tmp_path / "parts"))
    if name not in TRACED.values():
        monkeypatch.setattr(latentjac, "local_basis", by_chance)
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for file in ("photo.jpg", "mouth.png"):
        photo.save(file)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", Pretrained)
    opened = {f"owner/{name}": model}
    monkeypatch.setattr(latentjac, "load", lambda source: opened[getattr(source, "source", source)])
    if name not in COUNTED:
        monkeypatch.setattr(latentjac, "noise_point", functools.partial(with_few_tokens, latentjac.noise_point))
    held: dict[str, Any] = {"latentjac": latentjac, "diffusers": diffusers, "own": OWN, "away": AWAY}
    exec(example(name, folder=False), held)
    if media_of(model) == "sound":
        assert held["waves"].shape == (2, model.codec.channels, model.codec.length)
    else:
        assert Image.open("left.png").size[::-1] == model.codec.size
