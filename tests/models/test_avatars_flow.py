"""The built-in flow: in plain diffusers and here it gives the same pictures, and its blocks have bases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline
from truth import relative

import latentjac
from latentjac import models
from latentjac.diffusion import Multistep
from latentjac.linearization.autodiff import AutodiffLinearization

FOLDER = Path(models.__file__).parent / "builtin" / "avatars-flow"
PROMPT, OTHER = "a person with blue hair and a yellow background", "a person with blond hair and a blue background"


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load("avatars-flow")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_plain_diffusers_gives_the_same_picture(model: latentjac.Model, scale: float) -> None:
    pipeline = PixArtAlphaPipeline.from_pretrained(FOLDER)
    assert isinstance(pipeline.scheduler, DPMSolverMultistepScheduler)
    pipeline.set_progress_bar_config(disable=True)
    asked = {"prompt": PROMPT, "guidance_scale": scale, "num_inference_steps": 5}
    ours = latentjac.sample(model, **asked, generator=seeded(), solver=Multistep(), output_type="np")
    noise = torch.randn(1, *model.sample_shape, generator=seeded())
    theirs = pipeline(**asked, latents=noise, use_resolution_binning=False, output_type="np").images
    # Its times are cut to whole numbers.
    assert np.abs(ours - theirs).mean() < 2e-3


def test_it_draws_what_it_is_asked_for(model: latentjac.Model) -> None:
    """Blue hair is bluer than blond hair in the mean of four pictures, a blue background than a yellow one in each."""
    found = []
    for prompt in (PROMPT, OTHER):
        asked = {"prompt": prompt, "guidance_scale": 3.0, "num_inference_steps": 10}
        found.append(latentjac.sample(model, **asked, num_images=4, generator=seeded(), output_type="pt"))
    blue, blond = (p[:, 2, 10:22, 24:40].mean((1, 2)) - p[:, 0, 10:22, 24:40].mean((1, 2)) for p in found)
    assert blue.mean() > blond.mean() + 0.1
    yellow, of_sky = (p[:, 2, :6].mean((1, 2)) - p[:, 0, :6].mean((1, 2)) for p in found)
    assert (of_sky > yellow + 0.1).all()


def test_a_picture_is_inverted_and_sampled_again(model: latentjac.Model) -> None:
    conditioning = model.conditioning(PROMPT)
    pictures = latentjac.sample(
        model, num_images=2, num_inference_steps=10, generator=seeded(), conditioning=conditioning
    )
    path = latentjac.invert(model, pictures, 16, conditioning=conditioning)
    assert min(path.psnr) > 40


def test_first_middle_and_last_block_have_a_basis(model: latentjac.Model) -> None:
    """Directions and what they do to the features, beside the Jacobian that torch differentiates."""
    conditioning = model.conditioning(PROMPT, guidance_scale=3.0)
    point = latentjac.noise_point(model, num_inference_steps=10, generator=seeded(), conditioning=conditioning)
    t = torch.tensor(point.timestep)
    blocks = [f"transformer_blocks.{i}" for i in range(len(model.network.transformer_blocks))]
    assert model.resolve_layer("mid") == blocks[len(blocks) // 2]
    for layer in (blocks[0], blocks[len(blocks) // 2], blocks[-1]):
        basis = latentjac.local_basis(model, point, 2, layer, tol=1e-2)
        features = model.feature_map(layer)
        exact = AutodiffLinearization(lambda z, f=features: f(z, t, point.conditioning), point.sample)
        pushed, pulled = exact.jvp(basis.v[:, None]).flatten(1), exact.vjp(basis.u[:, None]).flatten(1)
        assert relative(pushed, basis.s[:, None] * basis.u.flatten(1)) < 2e-2
        assert relative(pulled, basis.s[:, None] * basis.v.flatten(1)) < 2e-2
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 3.0])
    assert relative(edit.samples[0, 1], edit.samples[0, 0]) > 1e-2
