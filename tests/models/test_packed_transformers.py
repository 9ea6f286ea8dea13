"""Further families of pictures: prompts of several lengths at once, and settings that move levels."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from families import SMALL
from family_checks import sample_error
from image_transformers import build_flux2
from packed_transformers import build_bria, build_krea2
from truth import relative

import latentjac
from latentjac.models import adapters
from latentjac.models.autoencoders import picture_channels

# With texts as they come from their tokenizers, without padding to a fixed number.
MASKED = (
    "bria-fibo", "bria-fibo-2", "krea-2", "ernie-image", "prx", "lumina", "hunyuan-image", "dreamlite", "nucleus-image",
)  # fmt: skip
PROMPTS = ["a 'red' cat", "the blue dog and a 'car' the dog"]


@pytest.mark.parametrize("name", MASKED)
def test_prompts_of_several_lengths_at_once_are_those_alone(name: str, tmp_path: Path) -> None:
    row = SMALL[name]
    model = row.load(row.source(tmp_path), dtype=torch.float64)
    x, t = torch.randn(2, *model.sample_shape, dtype=torch.float64), torch.tensor(600.0)
    both = model.denoiser(model.conditioning(PROMPTS, guidance_scale=2.0)).eps(x, t)
    for i, prompt in enumerate(PROMPTS):
        alone = model.denoiser(model.conditioning(prompt, guidance_scale=2.0)).eps(x[i : i + 1], t)
        assert relative(both[i : i + 1], alone) < 1e-5


@pytest.mark.parametrize(
    ("name", "build", "setting"),
    [("bria", build_bria, {"shifted": False}), ("krea-2", build_krea2, {"distilled": True})],
)
def test_levels_are_those_of_the_pipeline_by_its_settings(name: str, build: Any, setting: dict[str, bool]) -> None:
    pipeline, usual = build(**setting), build()
    for each in (pipeline, usual):
        each.set_progress_bar_config(disable=True)
    row = SMALL[name]
    assert sample_error(row, pipeline, row.load(pipeline)) < 1e-5
    assert sample_error(row, pipeline, row.load(usual)) > 1e-3


def test_a_text_that_guidance_leads_away_from_is_zeros_where_there_is_none(tmp_path: Path) -> None:
    for name in ("bria", "kandinsky-3"):
        row = SMALL[name]
        model = row.load(row.source(tmp_path))
        none, some = (model.conditioning("a cat", text, 2.0).guidance.negative["text"] for text in ("", "a dog"))
        assert not none.any()
        assert some.any()


def test_an_autoencoder_that_makes_pixels_channels_has_pictures_of_three() -> None:
    from diffusers import AutoencoderKLWan

    sizes = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 2], "num_res_blocks": 1, "temperal_downsample": [False]}
    scaled = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "scale_factor_spatial": 4}
    coder = AutoencoderKLWan(**sizes, **scaled, in_channels=12, out_channels=12, patch_size=2)
    assert picture_channels(coder) == 3
    codec = latentjac.models.LatentCodec(coder, 2)
    assert codec.size == (8, 8)
    assert codec.decode(codec.encode(torch.rand(1, 3, 8, 8))).shape == (1, 3, 8, 8)


def test_distilled_pipelines_that_ignore_a_scale_of_guidance_are_not_guided_by_default(tmp_path: Path) -> None:
    pipeline = build_flux2()
    assert latentjac.load(pipeline, size=16).guidance_scale == 4
    pipeline.register_to_config(is_distilled=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(tmp_path / "saved")
    model = latentjac.load(pipeline, size=16)
    assert model.guidance_scale == latentjac.load(tmp_path / "saved", size=16).guidance_scale == 1
    point = latentjac.noise_point(model, num_inference_steps=3, prompt="a red cat")
    theirs = pipeline(prompt="a red cat", latents=point.sample, height=16, width=16, num_inference_steps=3,
                      output_type="np").images  # fmt: skip
    assert relative(torch.as_tensor(latentjac.sample(model, point, output_type="np")), torch.as_tensor(theirs)) < 1e-5


@pytest.mark.parametrize(
    "name", ["FLUX", "CHROMA", "QWEN_IMAGE", "NUCLEUS", "OVIS_IMAGE", "LONGCAT_IMAGE", "BRIA", "KREA2"]
)
def test_published_networks_see_sixteen_channels_of_latents(name: str) -> None:
    """In 64 of a token; what some predict is counted before it is folded."""
    family = getattr(adapters, name)
    parameters = inspect.signature(getattr(diffusers, family.network).__init__).parameters
    config = {key: parameter.default for key, parameter in parameters.items()}
    if name == "NUCLEUS":
        config["out_channels"] = 16
    assert config["in_channels"] == 64
    assert family.sample_shape(SimpleNamespace(config=config)) == (16, 128, 128)
