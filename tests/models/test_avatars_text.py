"""The built-in text model: in plain diffusers and here it gives the same pictures, and captions matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from truth import relative

import latentjac
from latentjac import models
from latentjac.linearization.autodiff import AutodiffLinearization

FOLDER = Path(models.__file__).parent / "builtin" / "avatars-text"
PROMPT, OTHER = "a person with blue hair and glasses", "a person with blond hair and a red shirt"


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load("avatars-text")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 20e6


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_plain_diffusers_gives_the_same_picture(model: latentjac.Model, scale: float) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    pipeline.set_progress_bar_config(disable=True)
    conditioning = model.conditioning(PROMPT, guidance_scale=scale)
    # Where steps do not divide the 1000 timesteps, diffusers takes each to a level between those of its list.
    point = latentjac.noise_point(model, num_inference_steps=5, generator=seeded(), conditioning=conditioning)
    ours = latentjac.sample(model, point, output_type="np")
    theirs = pipeline(
        PROMPT, guidance_scale=scale, num_inference_steps=5, latents=point.sample, output_type="np"
    ).images  # fmt: skip
    assert np.abs(ours - theirs).max() < 1e-4


def test_it_draws_what_it_is_asked_for(model: latentjac.Model) -> None:
    """Blue hair is bluer than blond hair, and a red shirt is redder, in every one of four pictures."""
    found = []
    for prompt in (PROMPT, OTHER):
        conditioning = model.conditioning(prompt, guidance_scale=3.0)
        pictures = latentjac.sample(
            model, num_images=4, num_inference_steps=10, generator=seeded(), conditioning=conditioning, output_type="pt"
        )
        found.append(pictures)
    blue, blond = (p[:, 2, 10:24, 16:48].mean((1, 2)) - p[:, 0, 10:24, 16:48].mean((1, 2)) for p in found)
    assert (blue > blond + 0.1).all()
    plain, red = (p[:, 0, -4:, 24:40].mean((1, 2)) - p[:, 2, -4:, 24:40].mean((1, 2)) for p in found)
    assert (red > plain).all()


def test_round_trip_basis_and_an_edit(model: latentjac.Model) -> None:
    conditioning = model.conditioning(PROMPT)
    picture = latentjac.sample(
        model, num_images=1, num_inference_steps=10, generator=seeded(), conditioning=conditioning
    )
    path = latentjac.invert(model, picture[0], 16, conditioning=conditioning)
    assert path.psnr[0] > 40
    point = replace(path.at(0.6), conditioning=model.conditioning(PROMPT, guidance_scale=3.0))
    basis = latentjac.local_basis(model, point, 3, tol=1e-4)
    features, t = model.feature_map("mid"), torch.tensor(point.timestep)
    exact = AutodiffLinearization(lambda z: features(z, t, point.conditioning), point.sample)
    pushed = exact.jvp(basis.v[:, None]).flatten(1)
    assert relative(pushed, basis.s[:, None] * basis.u.flatten(1)) < 1e-3
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 3.0])
    assert relative(edit.samples[0, 1], edit.samples[0, 0]) > 1e-2
