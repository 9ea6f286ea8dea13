"""Transformers of flows: Stable Diffusion 3 and Flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from networks import few_tokens
from pipelines import build_flux, build_stable_diffusion_3
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method
from latentjac.models.adapters import flux

PROMPTS = ["a red cat", "a dog"]


@pytest.fixture(scope="module", params=["sd3", "flux", "flux schnell"])
def model(request, tmp_path_factory) -> latentjac.Model:
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "sd3":
        return latentjac.load(build_stable_diffusion_3(folder), dtype=torch.float64)
    return latentjac.load(build_flux(folder, distilled=request.param == "flux"), size=16, dtype=torch.float64)


@pytest.fixture(scope="module")
def point(model: latentjac.Model) -> latentjac.Point:
    """On the way of a picture, under guidance."""
    under = few_tokens(model.conditioning("a cat", guidance_scale=2.0))
    return latentjac.invert(model, pictures(1), 5, conditioning=under).at(0.6)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_tokens_of_flux_are_those_of_diffusers() -> None:
    x = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flux.packed(x), FluxPipeline._pack_latents(x, 2, 4, 6, 8))
    assert torch.equal(flux.unpacked(flux.packed(x), x.shape), x)
    assert torch.equal(flux.places(x), FluxPipeline._prepare_latent_image_ids(2, 3, 4, "cpu", torch.float32))


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("t5", [False, True])
def test_pictures_of_stable_diffusion_3_are_those_of_diffusers(tmp_path: Path, scale: float, t5: bool) -> None:
    pipeline = build_stable_diffusion_3(tmp_path, t5=t5)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline)
    options = {"negative_prompt": "blue", "num_inference_steps": 4, "guidance_scale": scale, "output_type": "np"}
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    theirs = pipeline(PROMPTS, latents=noise, height=16, width=16, **options).images
    ours = latentjac.sample(model, num_images=2, prompt=PROMPTS, generator=torch.Generator().manual_seed(2), **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


@pytest.mark.parametrize("distilled", [False, True])
def test_pictures_of_flux_are_those_of_diffusers(tmp_path: Path, distilled: bool) -> None:
    pipeline = build_flux(tmp_path, distilled=distilled)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=16)
    options = {"num_inference_steps": 4, "output_type": "np", "guidance_scale": 2.0 if distilled else 1.0}
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    given = {"latents": flux.packed(noise), "height": 16, "width": 16}
    theirs = pipeline(PROMPTS, max_sequence_length=512, **given, **options).images
    ours = latentjac.sample(model, num_images=2, prompt=PROMPTS, generator=torch.Generator().manual_seed(2), **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_the_scale_of_guidance_is_an_input_of_distilled_networks(tmp_path: Path) -> None:
    model = latentjac.load(build_flux(tmp_path), size=16)
    under = model.conditioning("a cat", guidance_scale=2.0)
    assert under.guidance is None
    assert under["guidance_embedding"].tolist() == [2.0]
    assert latentjac.noise_point(model, prompt="a cat").conditioning["guidance_embedding"].tolist() == [3.5]


def test_there_and_back_under_two_prompts(model) -> None:
    under = few_tokens(model.conditioning(PROMPTS))
    path = latentjac.invert(model, pictures(2), 6, conditioning=under, grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40
    assert path.at(0.6).conditioning.num_rows == 2


@pytest.mark.parametrize("layer", ["mid", "x0"])
def test_bases_are_those_of_the_dense_jacobian(model, point, layer: str) -> None:
    t = torch.tensor(point.timestep)
    features = model.feature_map(layer)
    dense = dense_jacobian(lambda x: features(x, t, point.conditioning), point.sample)
    basis = latentjac.local_basis(model, point, k=2, layer=layer, tol=1e-6)
    torch.testing.assert_close(basis.s.flatten(), torch.linalg.svdvals(dense)[:2], rtol=1e-3, atol=0)


def test_mid_is_the_stream_of_the_picture(model) -> None:
    point = latentjac.noise_point(model, prompt="a cat")
    features = model.feature_map("mid")(point.sample, torch.tensor(500.0), point.conditioning)
    assert list(features.shape) == [1, 16, 16]  # 4x4 tokens, not those of the text


@pytest.mark.parametrize(
    "method",
    [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()],
    ids=repr,
)
def test_edits(model, point, method: Method) -> None:
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3
