"""Guidance that gives predictions their contrast back, and texts for one encoder each: as pipelines have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import rand, randomize
from pipelines import build_flux, build_sdxl, build_stable_diffusion, build_stable_diffusion_3
from truth import dense_jacobian

import latentjac
from latentjac.models import ClassifierFree, RescaledGuidance
from latentjac.models.adapters import flux

PROMPTS, NEGATIVE = ["a red cat", "a dog"], "blue"


@pytest.fixture
def model(tmp_path: Path) -> latentjac.Model:
    pipeline = build_stable_diffusion(tmp_path)
    randomize(pipeline.unet)
    return latentjac.load(pipeline, dtype=torch.float64)


@pytest.mark.parametrize("build", [build_stable_diffusion, build_sdxl])
def test_pictures_are_those_of_diffusers(build: Any, tmp_path: Path) -> None:
    pipeline = build(tmp_path)
    randomize(pipeline.unet).float()
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline)
    pictures = []
    for rescale in (0.7, 0.0):
        given = model.conditioning(PROMPTS, NEGATIVE, 7.5, guidance_rescale=rescale)
        pictures.append(latentjac.sample(
            model, num_images=2, num_inference_steps=4, generator=torch.Generator().manual_seed(2), conditioning=given,
            output_type="np",
        ))  # fmt: skip
    theirs = pipeline(
        PROMPTS, negative_prompt=[NEGATIVE] * 2, guidance_scale=7.5, guidance_rescale=0.7, num_inference_steps=4,
        generator=torch.Generator().manual_seed(2), height=16, width=16, output_type="np",
    ).images  # fmt: skip
    np.testing.assert_allclose(pictures[0], theirs, atol=1e-4)
    assert np.abs(pictures[0] - pictures[1]).max() > 1e-2


def test_predictions_and_bases_are_those_of_the_formula(model) -> None:
    given = model.conditioning("a cat", NEGATIVE, 5.0, guidance_rescale=0.6)
    x, t = rand(2, 4, 8, 8), torch.tensor(300)
    own, away = (model.eps(x, t, c) for c in (given.unguided(), given.guidance.negative))
    guided = away + 5 * (own - away)
    ratio = own.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    torch.testing.assert_close(model.eps(x, t, given), guided * (0.4 + 0.6 * ratio).reshape(2, 1, 1, 1))
    start = latentjac.noise_point(model, num_inference_steps=4, conditioning=given)
    t = torch.tensor(start.timestep)
    exact = torch.linalg.svdvals(dense_jacobian(lambda x: model.eps(x, t, given), start.sample))[:2]
    torch.testing.assert_close(latentjac.local_basis(model, start, 2, "eps", tol=1e-6).s, exact, rtol=1e-5, atol=0)
    feature = latentjac.local_basis(model, start, 1, tol=1e-3)
    for method in (latentjac.editing.Linear(), latentjac.editing.HSpace()):
        direction = feature.u[0] if method.in_features else feature.v[0]
        edit = latentjac.edit(model, start, direction, [0.0, 2.0], method=method)
        torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, start, output_type="latent"))


def test_it_is_saved_and_what_does_not_fit_is_named(model, tmp_path: Path) -> None:
    given = model.conditioning("a cat", guidance_scale=5.0, guidance_rescale=0.6)
    point = latentjac.noise_point(model, num_inference_steps=4, conditioning=given)
    read = latentjac.Point.load(point.save(tmp_path / "point.safetensors")).conditioning
    assert read == given
    assert isinstance(read.guidance, RescaledGuidance)
    assert "rescaled by 0.6" in repr(read)
    assert type(model.conditioning("a cat", guidance_scale=5.0).guidance) is ClassifierFree
    with pytest.raises(ValueError, match=r"guidance_rescale must be left at 0\.0 without guidance"):
        model.conditioning("a cat", guidance_rescale=0.6)
    with pytest.raises(ValueError, match=r"guidance_rescale must be a number in \[0, 1\]"):
        model.conditioning("a cat", guidance_scale=2.0, guidance_rescale=1.1)
    with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\], got 0, 2"):
        RescaledGuidance(given.guidance.negative, 2.0, torch.tensor([0.0, 2.0]))
    distilled = latentjac.load(build_flux(tmp_path), size=16)
    with pytest.raises(ValueError, match="guidance_rescale must be 0 for a network that is not guided from outside"):
        distilled.conditioning("a cat", guidance_scale=2.0, guidance_rescale=0.5)


def _xl(first: Any, second: Any) -> dict[str, torch.Tensor]:
    half = 16  # channels of the first encoder
    text = torch.cat([first["text"][..., :half], second["text"][..., half:]], dim=-1)
    return {**second, "text": text}


def _flux(first: Any, second: Any) -> dict[str, torch.Tensor]:
    return {**second, "pooled": first["pooled"]}


def _sd3(first: Any, second: Any) -> dict[str, torch.Tensor]:
    half = 16  # channels of the first encoder, in the text and in what it says as a whole
    text, pooled = first["text"].clone(), first["pooled"].clone()
    text[..., half : 2 * half] = second["text"][..., half : 2 * half]
    pooled[:, half:] = second["pooled"][:, half:]
    return {**first, "text": text, "pooled": pooled}


@pytest.mark.parametrize(("build", "mixed"), [(build_sdxl, _xl), (build_flux, _flux), (build_stable_diffusion_3, _sd3)])
def test_another_text_for_the_second_encoder(build: Any, mixed: Any, tmp_path: Path) -> None:
    """As docs/text.md puts them together."""
    pipeline = build(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    packed = build is build_flux
    model = latentjac.load(pipeline, size=16 if packed else None)
    first, second = (model.conditioning(text, guidance_scale=3.0 if packed else 1.0) for text in PROMPTS)
    given = latentjac.Conditioning(mixed(first, second))
    noise = latentjac.noise_point(model, num_inference_steps=4, generator=torch.Generator().manual_seed(2)).sample
    theirs = pipeline(
        PROMPTS[0], PROMPTS[1], latents=flux.packed(noise) if packed else noise, num_inference_steps=4, height=16,
        width=16, guidance_scale=3.0 if packed else 1.0, output_type="np",
    ).images  # fmt: skip
    options: dict[str, Any] = {"num_inference_steps": 4, "output_type": "np"}
    pictures = [
        latentjac.sample(model, conditioning=c, generator=torch.Generator().manual_seed(2), **options)
        for c in (given, first, second)
    ]
    np.testing.assert_allclose(pictures[0], theirs, atol=1e-4)
    assert min(np.abs(pictures[0] - other).max() for other in pictures[1:]) > 1e-4
