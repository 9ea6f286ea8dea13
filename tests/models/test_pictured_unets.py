"""U-Nets that are told a picture, beside a text or in its place: each gets what diffusers' own pipeline feeds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import randomize
from pictured_pipelines import (
    build_deepfloyd,
    build_depth,
    build_gligen,
    build_kandinsky,
    build_kandinsky_21,
    build_unclip,
    build_upscale,
    build_variation,
)
from PIL import Image
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own

PROMPTS, NEGATIVE, STEPS, SCALE = ["a red cat", "a dog"], "blue", 4, 5.0


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def photo(seed: int) -> Image.Image:
    return Image.fromarray((uniform(16, 16, 3, seed=seed) * 255).numpy().astype("uint8"))


def source() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@dataclass(frozen=True)
class Case:
    """A family: its pipeline, what that is called with, and what our conditioning is made with.

    Attributes:
        build: Makes the pipeline, in a folder for files of its tokenizer.
        names: Of the tensors of a conditioning.
        called: What the pipeline is called with beside prompts and guidance.
        given: The same for :meth:`latentjac.Model.conditioning`.
        text: Whether there are prompts.
        options: Of ``build``.
        scale: Of guidance: less where rounding grows most on the way down.
    """

    build: Callable[..., Any]
    names: str
    called: Callable[[], dict[str, Any]]
    given: Callable[[], dict[str, Any]]
    text: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = SCALE

    def pipeline(self, folder: Path) -> Any:
        """With weights so large that all that the network gets matters."""
        made = self.build(folder, **self.options)
        randomize(made.unet).float()
        made.set_progress_bar_config(disable=True)
        return made

    def conditioning(self, model: latentjac.Model, scale: float, count: int = 2) -> latentjac.Conditioning:
        prompts = (PROMPTS[:count], NEGATIVE) if self.text and scale != 1 else (PROMPTS[:count],) if self.text else ()
        return model.conditioning(*prompts, guidance_scale=scale, **self.given())


SIZE = {"height": 16, "width": 16}
LOW, DEPTH, HINT = uniform(1, 3, 8, 8), uniform(1, 1, 16, 16), uniform(1, 3, 64, 64)
OWN, AWAY = uniform(2, 12, seed=3), uniform(2, 12, seed=4)
READY = {"image_embeds": OWN, "negative_image_embeds": AWAY, "height": 64, "width": 64}
TOLD = {"image_embedding": OWN, "negative_image_embedding": AWAY}
CASES = {
    "variation": Case(
        build_variation, "image_embedding",
        lambda: {"image": [photo(1), photo(2)], **SIZE}, lambda: {"image_prompt": [photo(1), photo(2)]}, text=False,
    ),
    "unclip": Case(
        build_unclip, "text image_embedding",
        lambda: {"image": photo(1), "noise_level": 100, "generator": source(), **SIZE},
        lambda: {"image_prompt": photo(1), "noise_level": 100, "generator": source()},
    ),
    "upscale": Case(
        build_upscale, "text image noise_level",
        lambda: {"image": LOW.expand(2, -1, -1, -1) * 2 - 1, "noise_level": 10, "generator": source()},
        lambda: {"image": LOW.expand(2, -1, -1, -1), "noise_level": 10, "generator": source()},
    ),
    "depth": Case(
        build_depth, "text depth",
        lambda: {"image": uniform(2, 3, 16, 16), "depth_map": DEPTH[0], "strength": 1.0}, lambda: {"control": DEPTH},
    ),
    "gligen": Case(
        build_gligen, "text",
        lambda: {"gligen_scheduled_sampling_beta": 0.0, "gligen_phrases": ["a"],
                 "gligen_boxes": [[0.0, 0.0, 1.0, 1.0]], **SIZE}, dict,
    ),
    "kandinsky": Case(build_kandinsky, "image_embedding", lambda: READY, lambda: TOLD, text=False),
    "kandinsky controlnet": Case(
        build_kandinsky, "control image_embedding",
        lambda: {**READY, "hint": HINT.expand(2, -1, -1, -1)}, lambda: {**TOLD, "control": HINT}, text=False,
        options={"control": True},
    ),
    "kandinsky 2.1": Case(build_kandinsky_21, "text pooled image_embedding", lambda: READY, lambda: TOLD, scale=1.5),
    "deepfloyd": Case(build_deepfloyd, "text", lambda: {"height": 8, "width": 8}, dict),
    "deepfloyd upscaled": Case(
        build_deepfloyd, "text image noise_level",
        lambda: {"image": LOW.expand(2, -1, -1, -1) * 2 - 1, "noise_level": 10, "generator": source(),
                 "height": 8, "width": 8},
        lambda: {"image": LOW.expand(2, -1, -1, -1), "noise_level": 10, "generator": source()},
        options={"upscaled": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_those_of_diffusers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    pipeline = case.pipeline(tmp_path)
    model = latentjac.load(pipeline)
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    # Where a pipeline begins is not what is compared; those of DeepFloyd and of depth take no latents.
    begin = "prepare_intermediate_images" if "deepfloyd" in name else "prepare_latents"
    monkeypatch.setattr(pipeline, begin, lambda *args, **options: noise, raising=True)
    prompts = {"prompt": PROMPTS, "negative_prompt": [NEGATIVE] * 2} if case.text else {}
    options = {"num_inference_steps": STEPS, "guidance_scale": case.scale, "output_type": "np"}
    theirs = pipeline(**prompts, **options, **case.called()).images
    conditioning = case.conditioning(model, case.scale)
    assert list(conditioning) == case.names.split()
    point = latentjac.noise_point(model, 2, num_inference_steps=STEPS, conditioning=conditioning)
    ours = latentjac.sample(model, replace(point, sample=noise), output_type="np")
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["variation", "unclip", "upscale", "depth", "kandinsky", "deepfloyd upscaled"])
def test_from_a_picture_to_a_basis_and_an_edit(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = latentjac.load(case.pipeline(tmp_path), dtype=torch.float64)
    plain, guided = (case.conditioning(model, scale).rows(slice(0, 1)) for scale in (1.0, 2.0))
    path = latentjac.invert(
        model, uniform(1, 3, *model.codec.size, seed=5), 5, conditioning=plain, grid=Own(), solver=Implicit(3e-4)
    )
    assert path.psnr[0] > 40
    point = replace(path.at(0.6), conditioning=guided)
    basis = latentjac.local_basis(model, point, 2, tol=1e-6)
    t, features = torch.tensor(point.timestep), []
    module = model.network.get_submodule(model.resolve_layer("mid"))
    handle = module.register_forward_hook(lambda module, inputs, output: features.append(output))

    def mid(x: torch.Tensor) -> torch.Tensor:
        features.clear()
        model.call(model.network, x, t, guided.unguided())
        return features[0]

    exact = torch.linalg.svd(dense_jacobian(mid, point.sample))
    handle.remove()
    torch.testing.assert_close(basis.s, exact.S[:2], rtol=1e-5, atol=0)
    overlap = torch.linalg.svdvals(exact.Vh[:2] @ basis.v.flatten(1).T)
    torch.testing.assert_close(overlap, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 2.0], method=latentjac.editing.Linear())
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-2


def test_embeddings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = latentjac.load(build_kandinsky(tmp_path))
    for given, message in (
        ({}, "image_embedding must be given since .* no encoder of pictures, got none"),
        ({"image_embedding": OWN, "image_prompt": photo(1)}, "image_prompt or image_embedding must be .* got both"),
        (
            {"image_prompt": photo(1)},
            "image_embedding must be given since .* no encoder of pictures, got an image_prompt",
        ),
        ({"image_embedding": OWN[:, :5]}, r"image_embedding must have shape \[B, 12\], got \[2, 5\]"),
        ({"image_embedding": OWN, "guidance_scale": 2.0}, "negative_image_embedding must be given with guidance"),
        ({"image_embedding": OWN, "noise_level": 3}, "noise_level must be left at None since"),
        ({"image_embedding": OWN, "control": HINT}, "control must be left at None since"),
    ):
        with pytest.raises(ValueError, match=f"conditioning: {message}"):
            model.conditioning(**given)
    one = model.conditioning(guidance_scale=2.0, **TOLD)
    point = latentjac.noise_point(model, 2, num_inference_steps=4, conditioning=one)
    assert point.with_prompt(model, guidance_scale=2.0).conditioning == one
    with pytest.raises(ValueError, match="with_prompt: negative_image_embedding must be given"):
        replace(point, conditioning=one.unguided()).with_prompt(model, guidance_scale=2.0)


def test_a_prior_gives_its_image_encoder(tmp_path: Path) -> None:
    pipeline = build_kandinsky(tmp_path, prior=True)
    model = latentjac.load(pipeline)
    prior = pipeline.prior_pipe
    found = model.conditioning(guidance_scale=4.0, image_prompt=photo(1))
    pixels = prior.image_processor(photo(1), return_tensors="pt").pixel_values
    torch.testing.assert_close(found["image_embedding"], prior.image_encoder(pixels).image_embeds)
    torch.testing.assert_close(found.guidance.negative["image_embedding"], prior.get_zero_embed())
