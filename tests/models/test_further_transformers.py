"""Transformers that make pictures, beside those of Stable Diffusion 3 and Flux: each family by the same checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from image_transformers import (
    build_aura_flow,
    build_chroma,
    build_cog_view3,
    build_cog_view4,
    build_flux2,
    build_hunyuan_dit,
    build_lumina2,
    build_qwen_image,
    build_sana,
    build_z_image,
)
from networks import few_tokens
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Guidance, HSpace, Method
from latentjac.models.adapters import flux

PROMPTS = ["a red cat", "a dog"]


@dataclass(frozen=True)
class Case:
    """A family: its pipeline, and how pictures are asked for.

    Attributes:
        build: Makes the pipeline.
        mid: Shape of the features of the middle block.
        options: Of the call of the pipeline.
        load: Of ``latentjac.load``.
        small: The same, for pictures of which Jacobians are made.
        pack: Samples as the pipeline has them.
        given: Noise as the pipeline takes it; by default as it has samples.
        negative: What guidance leads away from; nothing for pipelines that take none.
        guided: Options of the pipeline for a scale of guidance of ours.
    """

    build: Callable[[], Any]
    mid: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=lambda: {"size": 8})
    pack: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    given: Callable[[torch.Tensor], torch.Tensor] | None = None
    negative: str = "blue"
    guided: Callable[[float], dict[str, Any]] = lambda scale: {}


# Flux 2 takes no text to lead away from.
FOLDED: dict[str, Any] = {
    "load": {"size": 16},
    "pack": lambda x: x.flatten(2).transpose(1, 2),
    "given": lambda x: x,
    "negative": "",
}
CASES = {
    "sana": Case(build_sana, [1, 16, 16], {"use_resolution_binning": False}, small={}),
    "aura flow": Case(build_aura_flow, [1, 4, 16]),
    "hunyuan dit": Case(build_hunyuan_dit, [1, 4, 16], {"use_resolution_binning": False}, small={"size": 32}),
    "cog view 4": Case(build_cog_view4, [1, 4, 16]),
    "qwen image": Case(
        build_qwen_image,
        [1, 4, 16],
        load={"size": 16},
        pack=flux.packed,
        guided=lambda scale: {"guidance_scale": None, "true_cfg_scale": scale},
    ),
    "z image": Case(build_z_image, [1, 4, 16], load={"size": 16}, guided=lambda scale: {"guidance_scale": scale - 1}),
    "lumina 2": Case(build_lumina2, [1, 4, 16]),
    "chroma": Case(build_chroma, [1, 4, 16], load={"size": 16}, pack=flux.packed),
    "cog view 3": Case(build_cog_view3, [1, 4, 16]),
    "flux 2": Case(partial(build_flux2, large=True), [1, 4, 16], **FOLDED),
    "klein": Case(build_flux2, [1, 4, 16], **FOLDED),
}


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case) -> latentjac.Model:
    return latentjac.load(case.build(), dtype=torch.float64, **case.small)


@pytest.fixture(scope="module")
def point(model: latentjac.Model) -> latentjac.Point:
    """On the way of a picture, under guidance."""
    under = few_tokens(model.conditioning("a cat", guidance_scale=2.0))
    return latentjac.invert(model, pictures_for(model), 5, conditioning=under).at(0.6)


def pictures_for(model: latentjac.Model, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, *model.codec.size, generator=torch.Generator().manual_seed(0))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_pictures_are_those_of_diffusers(case: Case, scale: float) -> None:
    pipeline = case.build()
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, **case.load)
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    height, width = model.codec.size
    steps: list[torch.Tensor] = []
    pictures = pipeline(
        prompt=list(PROMPTS),  # some pipelines change theirs
        **({"negative_prompt": [case.negative] * 2} if case.negative else {}),
        latents=(case.given or case.pack)(noise),
        height=height,
        width=width,
        num_inference_steps=4,
        output_type="np",
        callback_on_step_end=lambda pipe, i, t, held: steps.append(held["latents"]) or {},
        **{"guidance_scale": scale, **case.options, **case.guided(scale)},
    ).images

    def ours(prompts: list[str], output_type: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        options = {"num_inference_steps": 4, "guidance_scale": scale, "output_type": output_type}
        return latentjac.sample(
            model, num_images=2, prompt=prompts, negative_prompt=case.negative, generator=generator, **options
        )

    latents = case.pack(ours(PROMPTS, "latent"))
    assert apart(latents, steps[-1]) < 1e-5
    assert apart(case.pack(ours(PROMPTS[::-1], "latent")), steps[-1]) > 1e-4
    np.testing.assert_allclose(ours(PROMPTS, "np"), pictures, atol=1e-4)


def test_the_prompt_counts(model, case: Case) -> None:
    x = torch.randn(1, *model.sample_shape, dtype=model.dtype, generator=torch.Generator().manual_seed(1))
    found = [model.eps(x, torch.tensor(500.0), model.conditioning(text)) for text in PROMPTS]
    assert (found[0] - found[1]).abs().max() > 1e-4
    under = model.conditioning(PROMPTS, case.negative, 3.0)
    assert under.num_rows == 2
    both = model.eps(x.expand(2, -1, -1, -1), torch.tensor(500.0), under)
    each = [model.eps(x, torch.tensor(500.0), under.rows(slice(i, i + 1))) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(each), rtol=1e-5, atol=1e-6)


def test_there_and_back_under_two_prompts(model) -> None:
    under = few_tokens(model.conditioning(PROMPTS))
    # These step further than networks that were trained.
    path = latentjac.invert(model, pictures_for(model, 2), 12, conditioning=under, grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40
    assert path.at(0.6).conditioning.num_rows == 2


@pytest.mark.parametrize("layer", ["mid", "x0"])
def test_bases_are_those_of_the_dense_jacobian(model, point, layer: str) -> None:
    t = torch.tensor(point.timestep)
    features = model.feature_map(layer)
    dense = dense_jacobian(lambda x: features(x, t, point.conditioning), point.sample)
    _, s, vt = torch.linalg.svd(dense, full_matrices=False)
    basis = latentjac.local_basis(model, point, k=2, layer=layer, tol=1e-5)
    torch.testing.assert_close(basis.s.flatten(), s[:2], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:2].T).min() > 1 - 1e-3


def test_mid_is_the_stream_of_the_picture(model, case: Case) -> None:
    point = latentjac.noise_point(model, prompt="a cat")
    features = model.feature_map("mid")(point.sample, torch.tensor(500), point.conditioning)
    assert list(features.shape) == case.mid


@pytest.mark.parametrize("method", [Guidance(num_steps=2), HSpace()])
def test_edits(model, point, method: Method) -> None:
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-4
