"""IP-Adapters from files: a folder with one gives what the pipeline object with it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from adapter_files import FILE, saved
from PIL import Image
from pipelines import build_flux, build_sdxl, build_stable_diffusion
from safetensors.torch import load_file, save_file

import latentjac

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8))
KINDS = {"sd": build_stable_diffusion, "xl": build_sdxl}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(build_stable_diffusion, tmp_path_factory.mktemp("adapter") / "sd")


def picture(model: latentjac.Model) -> np.ndarray:
    under = model.conditioning("a cat", guidance_scale=2.0, image_prompt=PHOTO)
    generator = torch.Generator().manual_seed(0)
    return latentjac.sample(model, conditioning=under, num_inference_steps=3, generator=generator, output_type="np")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_an_adapter_is_the_object_with_it(kind: str, tmp_path: Path) -> None:
    folder = saved(KINDS[kind], tmp_path / kind)
    pipeline = type(KINDS[kind](tmp_path)).from_pretrained(folder / "saved")
    pipeline.load_ip_adapter(str(folder / "adapter"), subfolder="", weight_name=FILE)
    pipeline.set_ip_adapter_scale(0.6)
    theirs = latentjac.load(pipeline)
    ours = latentjac.load(folder / "saved", ip_adapter={folder / "adapter" / FILE: 0.6})
    np.testing.assert_allclose(picture(ours), picture(theirs), atol=1e-6)
    assert ours.identity() == theirs.identity()
    full = latentjac.load(folder / "saved", ip_adapter=folder / "adapter" / FILE)
    assert full.identity() != ours.identity()
    assert np.abs(picture(full) - picture(ours)).max() > 1e-3


def test_without_an_encoder_of_pictures_embeddings_are_ready(folder: Path, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(folder / "adapter" / FILE).items()}
    save_file(half, tmp_path / FILE)
    model = latentjac.load(folder / "saved", ip_adapter=tmp_path / FILE)
    assert model.image_encoder is None
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    assert "image_embedding" in model.conditioning("a cat", image_embedding=torch.ones(12))
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "pytorch_model.bin").write_bytes(b"never read")
    assert latentjac.load(folder / "saved", ip_adapter=tmp_path / FILE).image_encoder is None


def test_together_with_adapters_of_low_rank(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder / "saved")
    pipeline.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(pipeline.unet)
    pipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    given = {"ip_adapter": folder / "adapter" / FILE}
    both, one = latentjac.load(folder / "saved", **given, lora=tmp_path), latentjac.load(folder / "saved", **given)
    assert np.abs(picture(both) - picture(one)).max() > 1e-3


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(adapter: Any, source: Any = folder / "saved") -> str:
        with pytest.raises((TypeError, ValueError, latentjac.LoadError)) as error:
            latentjac.load(source, ip_adapter=adapter)
        return str(error.value)

    file = folder / "adapter" / FILE
    assert "ip_adapter must be a safetensors file, got" in refused(folder / "adapter")
    assert "ip_adapter must be a file or a mapping of files to scales, got 3" in refused(3)
    assert "must be a number in [-100.0, 100.0]" in refused({file: 1e3})
    assert "add it to an object by load_ip_adapter" in refused(file, build_stable_diffusion(tmp_path))
    save_file({"image_proj.proj.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    assert "ip_adapter must fit a StableDiffusionPipeline, got" in refused(tmp_path / "other.safetensors")
    assert "without load_ip_adapter in diffusers, got one for a DDIMPipeline" in refused(file, "faces")
    build_flux(tmp_path).save_pretrained(tmp_path / "flux")
    assert "for a FluxPipeline, whose network is no U-Net" in refused(file, tmp_path / "flux")
