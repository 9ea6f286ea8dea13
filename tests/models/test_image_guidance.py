"""Guidance by a text and by a picture: that of diffusers' InstructPix2Pix, in files, edits and Jacobians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from networks import rand, randomize
from pipelines import build_sdxl, build_stable_diffusion
from truth import dense_jacobian

import latentjac
from latentjac.models import ClassifierFree, GuidedByImage, ImageGuidance

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PROMPTS, NEGATIVE = ["a red cat", "a dog"], "blue"
KINDS = {
    "sd": (build_stable_diffusion, diffusers.StableDiffusionInstructPix2PixPipeline),
    "xl": (build_sdxl, diffusers.StableDiffusionXLInstructPix2PixPipeline),
}


def build(folder: Path, name: str) -> Any:
    maker, kind = KINDS[name]
    pipeline = maker(folder, kind, in_channels=8)
    randomize(pipeline.unet).float()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def model(tmp_path: Path) -> latentjac.Model:
    return latentjac.load(build(tmp_path, "sd"), dtype=torch.float64)


def guided(model: latentjac.Model, prompt: Any = "a cat", scale: float = 5.0, image_scale: float = 1.7) -> Any:
    return model.conditioning(prompt, NEGATIVE, scale, image=PICTURE, image_guidance_scale=image_scale)


@pytest.mark.parametrize("name", KINDS)
def test_pictures_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    pipeline = build(tmp_path, name)
    model = latentjac.load(pipeline)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    theirs = pipeline(
        PROMPTS, image=PICTURE, negative_prompt=[NEGATIVE] * 2, latents=noise, num_inference_steps=4,
        guidance_scale=5.0, image_guidance_scale=1.7, output_type="np",
    ).images  # fmt: skip
    point = latentjac.noise_point(model, 2, num_inference_steps=4, conditioning=guided(model, PROMPTS))
    ours = latentjac.sample(model, latentjac.Point(noise, point.level, point.schedule, guided(model, PROMPTS)),
                            output_type="np")  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    plain = guided(model, PROMPTS, image_scale=1.0)
    assert type(plain.guidance) is ClassifierFree
    other = latentjac.sample(model, latentjac.Point(noise, point.level, point.schedule, plain), output_type="np")
    assert np.abs(ours - other).max() > 1e-2


def test_predictions_are_put_together_of_three(model) -> None:
    x, t, c = rand(2, 4, 8, 8), torch.tensor(300), guided(model, PROMPTS)
    assert isinstance(model.denoiser(c), GuidedByImage)
    own, negative, without = (
        model.call(model.network, x, t, latentjac.Conditioning(dict(part)).expand(2))
        for part in (c, c.guidance.negative, c.guidance.without)
    )
    torch.testing.assert_close(model.eps(x, t, c), without + 1.7 * (negative - without) + 5 * (own - negative))
    times = torch.tensor([300, 500])
    rows = [model.eps(x[i : i + 1], times[i], c.rows(slice(i, i + 1))) for i in range(2)]
    torch.testing.assert_close(model.eps(x, times, c), torch.cat(rows))
    assert not c.guidance.without["image"].any()


def test_bases_are_those_of_the_guided_prediction(model) -> None:
    t, c = torch.tensor(300), guided(model)
    path = latentjac.invert(model, PICTURE, 4, conditioning=c.unguided())
    point = latentjac.Point(path.at(0.6).sample, path.at(0.6).level, path.schedule, c)
    t = torch.tensor(point.timestep)
    exact = torch.linalg.svd(dense_jacobian(lambda x: model.eps(x, t, c), point.sample))
    basis = latentjac.local_basis(model, point, 3, layer="eps", tol=1e-6)
    torch.testing.assert_close(basis.s, exact.S[:3], rtol=1e-5, atol=0)
    overlap = torch.linalg.svdvals(exact.Vh[:3] @ basis.v.flatten(1).T)
    torch.testing.assert_close(overlap, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-4)
    feature = latentjac.local_basis(model, point, 1, tol=1e-3)
    for method in (latentjac.editing.Linear(), latentjac.editing.HSpace()):
        direction = feature.u[0] if method.in_features else feature.v[0]
        edit = latentjac.edit(model, point, direction, [0.0, 2.0], method=method)
        torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
        assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-2


def test_it_is_saved_with_points_and_stays_with_the_picture(model, tmp_path: Path) -> None:
    c = guided(model)
    point = latentjac.noise_point(model, num_inference_steps=4, conditioning=c)
    read = latentjac.Point.load(point.save(tmp_path / "point.safetensors"))
    assert read.conditioning == c
    assert isinstance(read.conditioning.guidance, ImageGuidance)
    assert latentjac.Conditioning.from_flat(c.flat()) == c
    other = read.with_prompt(model, "a dog", NEGATIVE, 5.0)
    assert other.conditioning == guided(model, "a dog")
    assert read.with_prompt(model, "a dog").conditioning.guidance is None
    assert "of the picture 1.7" in repr(c)


def test_what_does_not_fit_is_named(model, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"image_guidance_scale must be 1 without guidance \(guidance_scale=1\), got 2"
    ):
        model.conditioning("a", image=PICTURE, image_guidance_scale=2.0)
    plain = latentjac.load(build_stable_diffusion(tmp_path))
    with pytest.raises(
        ValueError, match=r"image_guidance_scale must be left at 1\.0 since .* not one of InstructPix2Pix"
    ):
        plain.conditioning("a", "", 2.0, image_guidance_scale=2.0)
    c = guided(model)
    with pytest.raises(ValueError, match="ImageGuidance: without must have no guidance of its own"):
        ImageGuidance(c.guidance.negative, c, 2.0, 1.5)
    with pytest.raises(
        ValueError, match=r"ImageGuidance: image_scale must be a number or have shape \[B\], got \[1, 1\]"
    ):
        ImageGuidance(c.guidance.negative, c.guidance.without, 2.0, torch.ones(1, 1))
    flat = c.flat()
    del flat["guidance.image_scale"]
    with pytest.raises(ValueError, match=r"from_flat: tensors must have guidance\.image_scale"):
        latentjac.Conditioning.from_flat(flat)
