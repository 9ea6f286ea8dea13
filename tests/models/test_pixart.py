"""Transformers that attend to a prompt of T5."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.pipelines.pixart_alpha import pipeline_pixart_alpha
from pipelines import TOKENS, build_pixart
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_pixart(), dtype=torch.float64)


def by_hand(model: latentjac.Model, x: torch.Tensor, t: torch.Tensor, text: str) -> torch.Tensor:
    tokens = model.text._tokens([text])
    return model.network(
        x,
        encoder_hidden_states=model.text.encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0],
        encoder_attention_mask=tokens.attention_mask,
        timestep=t.reshape(1),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample[:, :4]


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("scale", [1.0, 4.5])
def test_pictures_are_those_of_diffusers(scale: float, sized: bool) -> None:
    pipeline = build_pixart(sized=sized)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline)
    prompts, options = (
        ["a red cat", "a dog"],
        {"negative_prompt": "blue", "num_inference_steps": 3, "output_type": "np"},
    )
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    theirs = pipeline(
        prompts,
        latents=noise,
        guidance_scale=scale,
        use_resolution_binning=False,
        clean_caption=False,
        max_sequence_length=TOKENS,
        **options,
    ).images
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(model, num_images=2, prompt=prompts, generator=generator, guidance_scale=scale, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_what_the_network_gets(model) -> None:
    under = model.conditioning("A cat")
    assert {name: list(tensor.shape) for name, tensor in under.items()} == {
        "text": [1, TOKENS, 16],
        "text_mask": [1, TOKENS],
    }
    assert under["text_mask"][0].tolist() == [1] * 7 + [0] * 5  # two words with a sign before each, and the end
    sized = latentjac.load(build_pixart(sized=True)).conditioning(["a", "b"])
    assert sized["resolution"].tolist() == [[256.0, 256.0]]
    assert sized["aspect_ratio"].tolist() == [[1.0]]
    assert latentjac.noise_point(model, prompt="a cat").conditioning.guidance.scale.tolist() == [4.5]
    x, t = torch.ones(1, 4, 8, 8, dtype=torch.float64), torch.tensor(300)
    found = [model.eps(x, t, model.conditioning(text)) for text in ("a cat", "a dog")]
    for text, eps in zip(("a cat", "a dog"), found, strict=True):
        torch.testing.assert_close(eps, by_hand(model, x, t, text))
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_there_and_back_under_two_prompts(model) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    path = latentjac.invert(model, pictures, 6, ["a cat", "a dog"], grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40


def test_bases_are_those_of_dense_jacobians(model) -> None:
    point = latentjac.noise_point(
        model, num_inference_steps=5, prompt="a cat", negative_prompt="dog", guidance_scale=3.0
    )
    t = torch.tensor(point.timestep)

    def mid(x: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        block = model.network.transformer_blocks[1]  # of three
        handle = block.register_forward_hook(lambda module, inputs, output: found.append(output))
        by_hand(model, x, t, "a cat")
        handle.remove()
        return found[0]

    def eps(x: torch.Tensor) -> torch.Tensor:
        away = by_hand(model, x, t, "dog")
        return away + 3 * (by_hand(model, x, t, "a cat") - away)

    for layer, f in (("mid", mid), ("eps", eps)):
        _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
        basis = latentjac.local_basis(model, point, 3, layer, tol=1e-7)
        torch.testing.assert_close(basis.s, s[:3], rtol=1e-6, atol=0)
        assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-5


@pytest.mark.parametrize("method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()])
def test_edits(model, method: Method) -> None:
    point = latentjac.noise_point(model, num_inference_steps=5, prompt="a cat", guidance_scale=2.0)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3


def test_words_that_are_not_read_are_named(model) -> None:
    with pytest.warns(UserWarning, match=r"prompt: only 12 tokens are read, so these words are not: \['jklm'\]"):
        model.conditioning("abcdefgh ijklm")


def test_texts_are_cleaned_as_in_diffusers_where_it_can(model, monkeypatch: pytest.MonkeyPatch) -> None:
    written, plain = "(Cat)", "cat"
    monkeypatch.setattr(pipeline_pixart_alpha, "is_ftfy_available", lambda: False)
    assert model.conditioning(written) != model.conditioning(plain)
    texts = {"ftfy": SimpleNamespace(fix_text=str), "BeautifulSoup": lambda text, features: SimpleNamespace(text=text)}
    for name, stands_for_it in texts.items():
        monkeypatch.setattr(pipeline_pixart_alpha, name, stands_for_it, raising=False)
    for name in ("is_ftfy_available", "is_bs4_available"):
        monkeypatch.setattr(pipeline_pixart_alpha, name, lambda: True)
    assert model.conditioning(written) == model.conditioning(plain)


def test_no_layers_of_t5_are_left_out(model) -> None:
    with pytest.raises(ValueError, match=r"clip_skip must be left at None since model .* of CLIP, .*got 1"):
        model.conditioning("a cat", clip_skip=1)
