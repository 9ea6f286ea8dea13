"""One safetensors file in the layout of its authors gives what the pipeline gives that it came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from pipelines import build_flux, build_sdxl, build_stable_diffusion, build_stable_diffusion_3
from safetensors.torch import load_file, save_file
from single_files import autoencoder, save_as_one, save_stable_diffusion_3

import latentjac

BUILDERS = {"stable diffusion": build_stable_diffusion, "sdxl": build_sdxl}


def without_weights(folder: Path) -> Path:
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    return folder


def pictures(model: latentjac.Model) -> torch.Tensor:
    noise = torch.Generator().manual_seed(3)
    return latentjac.sample(model, num_inference_steps=2, prompt="a red cat", generator=noise, output_type="pt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, torch.Tensor]:
    """A file, the folder of its configurations, and pictures of the pipeline."""
    folder = tmp_path_factory.mktemp("saved")
    pipeline = build_stable_diffusion(folder)
    pipeline.save_pretrained(folder / "config")
    means = {f"model_ema.{i}": torch.ones(1) for i in range(3)}
    file = save_as_one(pipeline, folder / "model.safetensors", betas=torch.ones(3).double(), **means)
    return file, without_weights(folder / "config"), pictures(latentjac.load(pipeline))


@pytest.mark.parametrize("kind", BUILDERS)
def test_pictures_are_those_of_the_pipeline(kind: str, tmp_path: Path) -> None:
    pipeline = BUILDERS[kind](tmp_path)
    pipeline.save_pretrained(tmp_path / "config")
    file = save_as_one(pipeline, tmp_path / "model.safetensors")
    model = latentjac.load(file, config=without_weights(tmp_path / "config"))
    torch.testing.assert_close(pictures(model), pictures(latentjac.load(pipeline)), rtol=0, atol=0)


def test_pictures_are_those_of_stable_diffusion_3(tmp_path: Path) -> None:
    """Whose first encoder has no projection in such files."""
    pipeline = build_stable_diffusion_3(tmp_path, t5=True)
    torch.nn.init.eye_(pipeline.text_encoder.text_projection.weight)
    pipeline.save_pretrained(tmp_path / "config")
    file = save_stable_diffusion_3(pipeline, tmp_path / "model.safetensors")
    weights, start = load_file(file), "text_encoders.clip_l.transformer."
    del weights[f"{start}text_projection.weight"]
    save_file(weights, file)
    model = latentjac.load(file, config=without_weights(tmp_path / "config"))
    torch.testing.assert_close(pictures(model), pictures(latentjac.load(pipeline)), rtol=0, atol=0)
    save_file({name: value for name, value in weights.items() if "t5xxl" not in name}, file)
    with pytest.raises(latentjac.LoadError, match=r"none of \['text_encoder_3'\] in"):
        latentjac.load(file, config=tmp_path / "config")
    index = tmp_path / "config" / "model_index.json"
    index.write_text(
        json.dumps(json.loads(index.read_text()) | dict.fromkeys(("text_encoder_3", "tokenizer_3"), [None] * 2))
    )
    assert latentjac.load(file, config=tmp_path / "config").conditioning("a cat")["text"][:, 12:].abs().max() == 0


def test_the_layout_is_the_one_that_diffusers_reads(tmp_path: Path) -> None:
    pipeline = build_stable_diffusion(tmp_path)
    pipeline.save_pretrained(tmp_path / "config")
    file = save_as_one(pipeline, tmp_path / "model.safetensors")
    options = {"config": str(tmp_path / "config"), "local_files_only": True}
    theirs = StableDiffusionPipeline.from_single_file(str(file), **options)
    for part in ("unet", "vae", "text_encoder"):
        expected, found = getattr(pipeline, part).state_dict(), getattr(theirs, part).state_dict()
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_names_of_files_and_types(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    file, config, expected = saved
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.setenv("USERPROFILE", str(file.parent))
    for source, settings in (("~/model.safetensors", "~/config"), (str(file), str(config))):
        torch.testing.assert_close(pictures(latentjac.load(source, config=settings)), expected, rtol=0, atol=0)
    model = latentjac.load(file, config=config, dtype={"network": torch.float64, "autoencoder": torch.float32})
    assert (model.dtype, next(model.text.encoder.parameters()).dtype) == (torch.float64, torch.float64)
    assert next(model.codec.autoencoder.parameters()).dtype == torch.float32
    with pytest.raises(TypeError, match="scheduler must be None unless source is a network"):
        latentjac.load(file, model.scheduler, config=config)
    with pytest.raises(TypeError, match="config must be None unless source is a single file, got"):
        latentjac.load(config, config=config)
    with pytest.raises(TypeError, match="config must be a str or Path"):
        latentjac.load(file, config=3)


def test_configurations_of_a_hub_id(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    file, config, expected = saved
    asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(config)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    found = latentjac.load(file, config="someone/model", revision="abc")
    torch.testing.assert_close(pictures(found), expected, rtol=0, atol=0)
    name, options = asked.pop()
    assert (name, options["revision"], options["local_files_only"]) == ("someone/model", "abc", False)
    assert not any("safetensors" in pattern for pattern in options["allow_patterns"])
    latentjac.load(file)  # what the file is taken for, if it is in the cache
    name, options = asked.pop()
    assert (name, options["local_files_only"]) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", True)


def test_no_configuration(saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = r"config must be the pipeline folder .* or a hub id such as 'stable-diffusion-v1-5/\S+', .* got None for"
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(saved[0], cache_dir=tmp_path)
    with pytest.raises(latentjac.LoadError, match=r"config must be the pipeline folder .* got '/nowhere/config'"):
        latentjac.load(saved[0], config="/nowhere/config")
    with pytest.raises(latentjac.LoadError, match=r"without model_index\.json"):
        latentjac.load(saved[0], config=tmp_path)


def test_the_file_of_a_network_alone(saved, tmp_path: Path) -> None:
    """The rest comes from the folder where that has weights; a network under names of today and of its authors."""
    pipeline = build_flux(tmp_path)
    pipeline.save_pretrained(tmp_path / "flux")
    weights = {name: value + 0.01 for name, value in pipeline.transformer.state_dict().items()}
    save_file(weights, tmp_path / "other.safetensors")
    model = latentjac.load(tmp_path / "other.safetensors", config=tmp_path / "flux", size=16)
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    expected = latentjac.load(tmp_path / "flux", size=16).conditioning("a cat")
    assert model.conditioning("a cat") == expected
    without_weights(tmp_path / "flux")
    message = (
        r"source must hold the weights of \['transformer', 'vae', .*, or config those that it lacks, "
        r"got those of \['transformer'\] alone in .* and none of \['vae', 'text_encoder', 'text_encoder_2'\] in"
    )
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(tmp_path / "other.safetensors", config=tmp_path / "flux", size=16)
    other = {f"first_stage_model.{name}": value for name, value in autoencoder(pipeline.vae).items()}
    save_file({name: value.contiguous() for name, value in other.items()}, tmp_path / "vae.safetensors")
    with pytest.raises(latentjac.LoadError, match=r"got those of \['vae'\] alone"):
        latentjac.load(tmp_path / "vae.safetensors", config=saved[1])
    save_file({"word.weight": torch.ones(1, 16)}, tmp_path / "word.safetensors")
    with pytest.raises(latentjac.LoadError, match="got none of its parts"):
        latentjac.load(tmp_path / "word.safetensors", config=saved[1])
    shutil.copytree(saved[1], tmp_path / "pickled")
    for part in ("unet", "text_encoder"):
        (tmp_path / "pickled" / part / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(latentjac.LoadError, match=r"pickled weights \(\.bin\) are never read"):
        latentjac.load(tmp_path / "vae.safetensors", config=tmp_path / "pickled")


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "transformer.single_transformer_blocks.0.attn.to_k.lora.up.weight",
        "lora_unet_mid_block.hada_w1_a",
    ],
)
def test_files_of_adapters(saved, tmp_path: Path, name: str) -> None:
    save_file({name: torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(
        latentjac.LoadError, match=r"got those of an adapter \(LoRA\) in .* pipeline\.load_lora_weights"
    ):
        latentjac.load(tmp_path / "a.safetensors", config=saved[1])


@pytest.mark.parametrize("ending", ["ckpt", "bin", "pt", "pth", "CKPT"])
def test_pickled_files(saved, tmp_path: Path, ending: str) -> None:
    for there in (False, True):
        with pytest.raises(latentjac.LoadError, match=r"pickled weights are never read; .*from_single_file.*save_pret"):
            latentjac.load(tmp_path / f"model.{ending}", config=saved[1])
        if not there:
            (tmp_path / f"model.{ending}").write_bytes(b"\x80\x04.")


Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    "header": lambda content: content[:1000],
    "shorter": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_files(saved, tmp_path: Path, kind: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(DAMAGES[kind](saved[0].read_bytes()))
    with pytest.raises(latentjac.LoadError, match="path must be a safetensors file, got"):
        latentjac.load(tmp_path / "model.safetensors", config=saved[1])
    with pytest.raises(latentjac.LoadError, match="must be an existing file"):
        latentjac.load(tmp_path / "other.safetensors", config=saved[1])


Change = Callable[[dict[str, torch.Tensor]], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "missing": (
        lambda w: w.pop("model.diffusion_model.time_embed.0.bias"),
        r"must fit .*unet/config\.json', got .* without time_embedding\.linear_1\.bias",
    ),
    "more": (
        lambda w: w.update({"cond_stage_model.transformer.text_model.more.weight": torch.ones(2)}),
        r"must fit .*text_encoder/config\.json', got .* with unexpected \S*more\.weight",
    ),
    "shape": (
        lambda w: w.update({"model.diffusion_model.out.2.bias": torch.ones(9)}),
        r"conv_out\.bias must have the shape that .*unet/config\.json' gives it, \[4\], got \[9\]",
    ),
    "int": (
        lambda w: w.update({"first_stage_model.encoder.conv_in.bias": torch.ones(8).int()}),
        r"encoder\.conv_in\.bias must be of a floating type",
    ),
    "nan": (
        lambda w: w["model.diffusion_model.out.2.bias"].fill_(float("nan")),
        r"model\.safetensors': weights must be finite, got NaN or Inf in conv_out\.bias",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_do_not_fit(saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    change, message = WRONG[kind]
    weights = load_file(saved[0])
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    if kind != "nan":
        monkeypatch.setattr("latentjac.models.single_file.read_tensors", lambda *args: pytest.fail("weights were read"))
    with pytest.raises(latentjac.LoadError, match=message) as caught:
        latentjac.load(tmp_path / "model.safetensors", config=saved[1])
    assert len(str(caught.value)) < 800
