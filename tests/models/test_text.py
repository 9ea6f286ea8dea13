"""Networks on latents and with text: read from every kind of source, and alike in all that is done with them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, StableDiffusionPipeline
from networks import point_at
from pipelines import SHALLOW, TOKENS, build_latent_diffusion, build_stable_diffusion

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Guidance


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionPipeline:
    return build_stable_diffusion(tmp_path_factory.mktemp("tokenizer"), **SHALLOW)


@pytest.fixture(scope="module")
def model(pipeline: StableDiffusionPipeline) -> latentjac.Model:
    return latentjac.load(pipeline)


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_folder_gives_what_the_object_gives(pipeline, model, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    read = latentjac.load(tmp_path)
    assert (read.sample_shape, read.codec.size) == ((4, 8, 8), (16, 16))
    assert read.identity() == model.identity()
    torch.testing.assert_close(read.conditioning("a cat")["text"], model.conditioning("a cat")["text"])
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(read.codec.decode(x), model.codec.decode(x))


def test_pictures_are_those_of_diffusers(pipeline, model) -> None:
    options = {"num_inference_steps": 4, "guidance_scale": 5.0}
    prompts, negative = ["a red cat", "a dog"], "blue"
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(prompts, negative_prompt=[negative] * 2, latents=noise, output_type="np", **options).images
    ours = latentjac.sample(
        model,
        num_images=2,
        prompt=prompts,
        negative_prompt=negative,
        generator=torch.Generator().manual_seed(2),
        output_type="np",
        **options,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_latents_and_back(model, picture) -> None:
    z = model.codec.encode(picture)
    assert (z.shape, z.dtype) == ((1, 4, 8, 8), torch.float32)
    posterior = model.codec.autoencoder.encode(picture * 2 - 1).latent_dist
    torch.testing.assert_close(z, 3 * posterior.mean)
    pictures = model.codec.decode(z.repeat(6, 1, 1, 1))
    assert pictures.shape == (6, 3, 16, 16)
    expected = model.codec.autoencoder.decode(z / 3).sample / 2 + 0.5
    torch.testing.assert_close(pictures[5:], expected.clamp(0, 1))


def test_an_autoencoder_that_overflows_is_named(picture, tmp_path: Path) -> None:
    codec = latentjac.load(build_stable_diffusion(tmp_path)).codec
    for parameter in codec.autoencoder.parameters():
        parameter.mul_(1e30)
    for function, values in ((codec.encode, picture), (codec.decode, torch.ones(1, 4, 8, 8))):
        message = f"{function.__name__}: autoencoder must be finite, got NaN or Inf"
        with pytest.raises(latentjac.NonFiniteError, match=message):
            function(values)


def test_inversion_edits_and_bases_under_a_prompt(model, picture) -> None:
    path = latentjac.invert(model, picture, 8, prompt="a cat", grid=Own(), solver=Implicit(1e-3))
    assert path.psnr[0] > 30
    point = path.at(0.5)
    assert point.conditioning["text"].shape == (1, TOKENS, 16)
    bases = {}
    for prompt in ("a cat", "a dog", None):
        under = point.with_prompt(model, prompt)
        for layer in ("mid", "x0"):
            bases[prompt, layer] = latentjac.local_basis(model, under, k=2, layer=layer, tol=1e-3)
    for layer in ("mid", "x0"):
        same = latentjac.local_basis(model, point, k=2, layer=layer, tol=1e-3)
        torch.testing.assert_close(same.s, bases["a cat", layer].s)
        assert (bases["a dog", layer].s - same.s).abs().max() > 1e-6
    v = bases["a dog", "mid"].v[0]
    edit = latentjac.edit(model, point, v, distance=(0.0, 2.0), method=Guidance(num_steps=2))
    under = latentjac.edit(model, point, v, distance=(0.0, 2.0), method=Guidance(num_steps=2, prompt="a dog"))
    assert [image.size for image in edit.images] == [(16, 16)] * 2
    torch.testing.assert_close(under.samples[0, 0], edit.samples[0, 0])  # no way, so no text of a way
    other = point.with_prompt(model, "a dog")
    walked = latentjac.edit(model, other, v, distance=2.0, method=Guidance(num_steps=2))
    torch.testing.assert_close(under.points[0, 1], walked.points[0, 0])
    pictures = latentjac.sample(model, replace(point, sample=under.points[0, 1:]), output_type="latent")
    torch.testing.assert_close(under.samples[0, 1:], pictures)
    assert (walked.samples[0, 0] - under.samples[0, 1]).abs().max() > 1e-3


def test_a_basis_is_that_of_the_dense_jacobian(model) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    conditioning = model.conditioning("a cat", guidance_scale=3.0)
    point = point_at(x, 501, 50, scheduler=model.scheduler, conditioning=conditioning)
    t = torch.tensor(501)
    text, away = conditioning["text"], conditioning.guidance.negative["text"]
    network = model.network

    def guided(x: torch.Tensor) -> torch.Tensor:
        with_text, without = (network(x, t, c, return_dict=False)[0] for c in (text, away))
        return without + 3 * (with_text - without)

    def mid(x: torch.Tensor) -> torch.Tensor:
        return model.feature_map("mid")(x, t, conditioning)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for layer, f in (("eps", guided), ("mid", mid)):
            dense = torch.autograd.functional.jacobian(f, x).reshape(-1, x.numel())
            exact = torch.linalg.svdvals(dense.double())
            found = latentjac.local_basis(model, point, k=3, layer=layer, tol=1e-4)
            torch.testing.assert_close(found.s.double(), exact[:3], rtol=1e-4, atol=0)


def test_one_prompt_a_sample(model) -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    t = torch.tensor(300)
    both = model.eps(x, t, model.conditioning(["a cat", "dog"], guidance_scale=2.0))
    for i, prompt in enumerate(("a cat", "dog")):
        alone = model.eps(x[i : i + 1], t, model.conditioning(prompt, guidance_scale=2.0))
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_words_that_are_not_read_are_named(model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.conditioning("a cat")
    with pytest.warns(UserWarning, match=r"prompt: only 12 tokens are read, so these words are not: \['klm'\]"):
        model.conditioning("abcdefgh ijklm")


def test_an_unconditional_network_on_latents(picture, tmp_path: Path) -> None:
    pipeline = build_latent_diffusion()
    pipeline.save_pretrained(tmp_path)
    for source in (pipeline, tmp_path):
        model = latentjac.load(source)
        assert (model.sample_shape, model.codec.size, model.text) == ((3, 8, 8), (16, 16), None)
        path = latentjac.invert(model, picture, 6)
        assert path.psnr[0] > 20
        assert latentjac.local_basis(model, path.at(0.6), k=2).status is latentjac.Status.CONVERGED


def test_moving_a_model_moves_all_of_it(tmp_path: Path) -> None:
    model = latentjac.load(build_stable_diffusion(tmp_path), dtype=torch.float64)
    assert model.dtype == next(model.codec.autoencoder.parameters()).dtype == torch.float64
    assert model.conditioning("a")["text"].dtype == torch.float64


def test_without_transformers_the_message_says_what_to_install(pipeline, tmp_path, monkeypatch) -> None:
    pipeline.save_pretrained(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(latentjac.LoadError, match=r"pip install 'latentjac\[text\]'"):
        latentjac.load(tmp_path)


def test_what_is_not_understood_is_named(pipeline, model, picture) -> None:
    from networks import build_scheduler, build_tiny_unet

    plain = latentjac.load(DDIMPipeline(unet=build_tiny_unet(), scheduler=build_scheduler()))
    with pytest.raises(ValueError, match=r"prompt must be left at None since .* not conditioned on text, got 'a cat'"):
        latentjac.sample(plain, prompt="a cat")
    with pytest.raises(ValueError, match=r"guidance_scale must be left at 1.0 since .* not conditioned on text, got 3"):
        plain.conditioning(None, guidance_scale=3)
    with pytest.raises(TypeError, match="conditioning: prompt must be a text, a list of texts or None, got int"):
        model.conditioning(5)
    with pytest.raises(TypeError, match="conditioning: negative_prompt must be a str, got NoneType"):
        model.conditioning("a", None)
    with pytest.raises(TypeError, match="conditioning: guidance_scale must be a number, got str"):
        model.conditioning("a", guidance_scale="7")
    with pytest.raises(ValueError, match=r"prompt must be one text or 3 \(num_images\), got 2"):
        latentjac.sample(model, num_images=3, prompt=["a", "b"])
    with pytest.raises(ValueError, match=r"prompt must be one text or 1 \(as many as pictures\), got 2"):
        latentjac.invert(model, picture, 4, prompt=["a", "b"])
    point = latentjac.invert(model, picture, 4).at(0.5)
    with pytest.raises(ValueError, match="prompt must be left at None with a point, got 'a cat'"):
        latentjac.sample(model, point, prompt="a cat")
