"""Low-rank adapters from files: a folder with them gives what the pipeline object with them gives."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pipelines import build_flux, build_sdxl, build_stable_diffusion
from safetensors.torch import load_file, save_file

import latentjac

peft = pytest.importorskip("peft")
FILE = "pytorch_lora_weights.safetensors"
BUILDS: dict[str, tuple[Any, str]] = {
    "sd": (build_stable_diffusion, "unet"),
    "xl": (build_sdxl, "unet"),
    "flux": (build_flux, "transformer"),
}


def saved(name: str, folder: Path) -> Path:
    """A pipeline, in ``saved``, and adapters of its network in ``first`` and ``second``."""
    build, part = BUILDS[name]
    folder.mkdir(exist_ok=True)
    pipeline = build(folder)
    pipeline.save_pretrained(folder / "saved")
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    for seed, adapter in enumerate(("first", "second")):
        torch.manual_seed(seed)
        network = getattr(type(pipeline).from_pretrained(folder / "saved"), part)
        network.add_adapter(config)
        layers = peft.utils.get_peft_model_state_dict(network)
        pipeline.save_lora_weights(folder / adapter, **{f"{part}_lora_layers": layers})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("sd", tmp_path_factory.mktemp("adapters"))


def picture(model: latentjac.Model) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return latentjac.sample(
        model, prompt="a cat", guidance_scale=2.0, num_inference_steps=3, generator=generator, output_type="np"
    )


@pytest.mark.parametrize("name", BUILDS)
def test_a_folder_with_adapters_is_the_object_with_them(name: str, tmp_path: Path) -> None:
    folder, size = saved(name, tmp_path / name), 16 if name == "flux" else None
    pipeline = type(BUILDS[name][0](tmp_path)).from_pretrained(folder / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft's, of the second
        for adapter in ("first", "second"):
            pipeline.load_lora_weights(folder / adapter)
    pipeline.set_adapters(["default_0", "default_1"], [0.8, -0.5])
    loras = {folder / "first": 0.8, str(folder / "second" / FILE): -0.5}
    models = [
        latentjac.load(pipeline, size=size),
        latentjac.load(folder / "saved", lora=loras, size=size),
        latentjac.load(folder / "saved", lora=folder / "first", size=size),
        latentjac.load(folder / "saved", size=size),
    ]
    theirs, ours, first, none = map(picture, models)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert min(np.abs(ours - first).max(), np.abs(first - none).max()) > 1e-3
    identities = [model.identity() for model in models]
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3


def test_bases_see_them(folder: Path) -> None:
    values = []
    for lora in (None, folder / "first"):
        model = latentjac.load(folder / "saved", lora=lora, dtype=torch.float64)
        start = latentjac.noise_point(model, prompt="a cat", generator=torch.Generator().manual_seed(0))
        values.append(latentjac.local_basis(model, start, 2, tol=1e-6).s)
    assert not torch.allclose(*values, rtol=1e-3)


def test_adapters_in_half_precision_have_the_type_of_the_network(folder: Path, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(folder / "first" / FILE).items()}
    save_file(half, tmp_path / "half.safetensors")
    model = latentjac.load(folder / "saved", lora=tmp_path)  # of any name, where it is alone
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}


def test_an_adapter_beside_the_pipeline_is_read_where_it_is_given(folder: Path, tmp_path: Path) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder / "saved")
    pipeline.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / FILE).write_bytes((folder / "first" / FILE).read_bytes())
    with pytest.raises(latentjac.LoadError, match="give it as lora"):
        latentjac.load(tmp_path / "saved")
    ours = latentjac.load(tmp_path / "saved", lora=tmp_path / "saved")
    assert ours.identity() == latentjac.load(folder / "saved", lora=folder / "first").identity()


def test_networks_that_were_saved_with_one_on_are_refused(folder: Path, tmp_path: Path) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder / "saved")
    pipeline.load_lora_weights(folder / "first")
    pipeline.save_pretrained(tmp_path / "on")
    with pytest.raises(latentjac.LoadError, match=r"saved while an adapter \(LoRA\) was on.*unload_lora_weights"):
        latentjac.load(tmp_path / "on")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(tmp_path / "fused")
    fused, given = latentjac.load(tmp_path / "fused"), latentjac.load(folder / "saved", lora=folder / "first")
    np.testing.assert_allclose(picture(fused), picture(given), atol=1e-5)


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(lora: Any, source: Any = folder / "saved", **options: Any) -> str:
        with pytest.raises((TypeError, ValueError, latentjac.LoadError)) as error:
            latentjac.load(source, lora=lora, **options)
        return str(error.value)

    assert "lora must be a safetensors file or a folder with one" in refused(tmp_path / "none")
    assert "got " in refused(folder, source=folder / "saved")  # no such file in it
    (tmp_path / "pickled.bin").write_bytes(b"")
    assert "lora must be a safetensors file" in refused(tmp_path / "pickled.bin")
    assert "lora must be a file, a folder or a mapping" in refused(3)
    assert "must be a number in [-100.0, 100.0]" in refused({folder / "first": 1e3})
    pipeline = build_stable_diffusion(tmp_path)
    assert "add it to an object by load_lora_weights" in refused(folder / "first", source=pipeline)
    other = {"unet.nowhere.lora_A.weight": torch.ones(2, 16), "unet.nowhere.lora_B.weight": torch.ones(16, 2)}
    save_file(other, tmp_path / "other.safetensors")
    assert "lora must fit a StableDiffusionPipeline, got" in refused(tmp_path / "other.safetensors")
    save_file({name[5:]: value for name, value in other.items()}, tmp_path / "bare.safetensors")
    assert "lora must fit a StableDiffusionPipeline, got" in refused(tmp_path / "bare.safetensors")
    assert "a pipeline without load_lora_weights in diffusers, got one for a DDIMPipeline" in refused(
        folder / "first", source="faces"
    )
