"""What is no pipeline is refused by what it is, with what to do: parts of one, adapters, files of other kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from networks import build_scheduler
from pipelines import build_stable_diffusion
from safetensors.torch import save_file

import latentjac
from latentjac.files import read_json


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_stable_diffusion(tmp_path_factory.mktemp("parts"), StableDiffusionPipeline)


@pytest.fixture
def folder(pipeline: Any, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refusal(source: Any, *scheduler: Any, **options: Any) -> str:
    with pytest.raises(latentjac.LoadError) as caught:
        latentjac.load(source, *scheduler, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("vae", "it is the folder of an autoencoder, AutoencoderKL, which is no denoiser: give the folder of its"),
        ("text_encoder", "it is the folder of a CLIPTextModel of transformers, which is no denoiser: give the folder"),
        ("scheduler", "it is the folder of a scheduler, which has no network: give the folder of its pipeline"),
        ("tokenizer", "it is a part of a pipeline: give '{folder}'"),
        ("unet", "the folder of a network alone needs its scheduler: load(folder, scheduler)"),
        ("", "there is one below: give '{folder}'"),
    ],
)
def test_folders_of_parts(folder: Path, part: str, said: str) -> None:
    where = folder / part if part else folder.parent
    assert f"without model_index.json ({said.format(folder=folder)}" in refusal(where)


def test_parts_with_a_scheduler(folder: Path) -> None:
    said = refusal(folder / "vae", build_scheduler())
    assert "got 'AutoencoderKL' (it is the folder of an autoencoder" in said


@pytest.mark.parametrize("name", ["vae", "text_encoder"])
def test_parts_as_objects(pipeline: Any, name: str) -> None:
    part = getattr(pipeline, name)
    for given in ((part,), (part, build_scheduler())):
        said = refusal(*given)
        assert type(part).__name__ in said
        assert "give the pipeline object that it belongs to" in said


def test_a_scheduler_alone() -> None:
    with pytest.raises(TypeError, match=r"source must be .*, pipeline or network, got DDIMScheduler"):
        latentjac.load(build_scheduler())


def test_folders_of_files(tmp_path: Path) -> None:
    save_file({"a.lora_A.weight": torch.ones(2, 2)}, tmp_path / "pytorch_lora_weights.safetensors")
    said = refusal(tmp_path)
    assert "it is the folder of an adapter (LoRA): give the folder of a pipeline, and this one as lora=" in said
    (tmp_path / "pytorch_lora_weights.safetensors").rename(tmp_path / "mine.safetensors")
    assert "it holds 'mine.safetensors': give that file, if it is of a whole model" in refusal(tmp_path)
    (tmp_path / "mine.safetensors").unlink()
    assert refusal(tmp_path).endswith("without model_index.json")


@pytest.mark.parametrize("name", ["emb_params", "<my-cat>"])
def test_embeddings_of_words(tmp_path: Path, name: str) -> None:
    file = tmp_path / "cat.safetensors"
    save_file({name: torch.ones(2, 16)}, file)
    assert "embeddings of words (textual inversion) in" in refusal(file)
    save_file({f"{name}.weight": torch.ones(2, 16)}, file)
    assert "textual inversion" not in refusal(file)


def test_quantized_files(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert "source must be a safetensors file, got a file of quantized weights (GGUF)" in refusal(file)


def test_a_missing_shard(pipeline: Any, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, max_shard_size="20KB")
    index = read_json("test", tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json")
    name = sorted(set(index["weight_map"].values()))[1]
    (tmp_path / "unet" / name).unlink()
    assert f"got {name!r}, which is not there: fetch or copy it again" in refusal(tmp_path)


def test_a_pipeline_without_a_denoiser(folder: Path) -> None:
    index = folder / "model_index.json"
    held = {k: v for k, v in json.loads(index.read_text()).items() if k != "unet"}
    index.write_text(json.dumps(held))
    said = refusal(folder)
    assert "got StableDiffusionPipeline with no network" in said
    assert "latentjac.Model(network, scheduler, call=...)" in said


def test_a_broken_configuration_is_named(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")
    assert "config.json" in refusal(folder)
    assert "config.json" in refusal(folder / "unet", build_scheduler())
