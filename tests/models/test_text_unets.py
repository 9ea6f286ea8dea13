"""Families of U-Nets with text: what each gets is what diffusers' own pipelines feed it, and all works on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from networks import rand, randomize
from PIL import Image
from pipelines import (
    SHALLOW,
    build_adapted,
    build_controlled,
    build_prompted,
    build_sdxl,
    build_stable_diffusion,
    build_two_controlled,
)
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own

PROMPTS, NEGATIVE = ["a red cat", "a dog"], "blue"
STEPS, SCALE = 4, 5.0
PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[4:12, 2:10] = True


@dataclass(frozen=True)
class Case:
    """A family: its pipeline, what that is called with, and what our conditioning is made with.

    Attributes:
        build: Makes the pipeline, in a folder for files of its tokenizer.
        kind: Class of the pipeline.
        options: Of the U-Net.
        called: With what beside prompts and noise, of a model.
        given: For :meth:`latentjac.Model.conditioning`.
        names: Of the tensors of a conditioning.
        negative: Whether there can be a negative prompt.
    """

    build: Callable[..., Any]
    names: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    called: Callable[[latentjac.Model], dict[str, Any]] = lambda model: {}
    given: dict[str, Any] = field(default_factory=dict)
    negative: bool = True

    def pipeline(self, folder: Path) -> Any:
        """With weights so large that all that the network gets matters."""
        made = self.build(folder, getattr(diffusers, self.kind), **self.options)
        randomize(made.unet).float()
        made.set_progress_bar_config(disable=True)
        return made


def inpainting(model: latentjac.Model) -> dict[str, Any]:
    """Latents of the picture without its masked part: the pipeline would draw them from the posterior."""
    seen = model.codec.encode(torch.where(MASK, 0.5, PICTURE))
    mask = MASK[None, None].float()
    return {"image": PICTURE, "mask_image": mask, "masked_image_latents": seen, "strength": 1.0}


def noisy(model: latentjac.Model) -> dict[str, Any]:
    """From clean latents of zero, at full strength: the noise, scaled to its level."""
    return {"image": torch.zeros(2, 4, 8, 8), "strength": 1.0}


SD, XL = "text", "text pooled time_ids"
PICTURES = {"image": PICTURE, "mask": MASK}
NINE, EIGHT = {"in_channels": 9, **SHALLOW}, {"in_channels": 8, **SHALLOW}
CASES = {
    "sd": Case(build_stable_diffusion, SD, "StableDiffusionPipeline"),
    "sd lcm": Case(
        build_stable_diffusion,
        SD + " guidance_embedding",
        "LatentConsistencyModelPipeline",
        {"time_cond_proj_dim": 18, **SHALLOW},
        negative=False,
    ),
    "sd inpainting": Case(
        build_stable_diffusion, SD + " mask image", "StableDiffusionInpaintPipeline", NINE, inpainting, PICTURES
    ),
    "sd pix2pix": Case(
        build_stable_diffusion,
        SD + " image",
        "StableDiffusionInstructPix2PixPipeline",
        EIGHT,
        lambda model: {"image": PICTURE, "image_guidance_scale": 1.0},
        {"image": PICTURE},
    ),
    "xl": Case(build_sdxl, XL, "StableDiffusionXLPipeline"),
    "xl lcm": Case(
        build_sdxl,
        XL + " guidance_embedding",
        "StableDiffusionXLPipeline",
        {"time_cond_proj_dim": 17, **SHALLOW},
        negative=False,
    ),
    "xl refiner": Case(build_sdxl, XL, "StableDiffusionXLImg2ImgPipeline", {"refiner": True, **SHALLOW}, noisy),
    "xl inpainting": Case(
        build_sdxl, XL + " mask image", "StableDiffusionXLInpaintPipeline", NINE, inpainting, PICTURES
    ),
    "xl pix2pix": Case(
        build_sdxl,
        XL + " image",
        "StableDiffusionXLInstructPix2PixPipeline",
        EIGHT,
        lambda model: {"image": PICTURE, "image_guidance_scale": 1.0},
        {"image": PICTURE},
    ),
}
CASES |= {
    name: Case(
        build_controlled,
        names + " control control_strength",
        f"StableDiffusion{kind}ControlNetPipeline",
        called=lambda model: {"image": PICTURE.expand(2, -1, -1, -1)},
        given={"control": PICTURE},
    )
    for name, names, kind in (("sd controlnet", SD, ""), ("xl controlnet", XL, "XL"))
}
OTHER = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
PORTRAIT, STYLE = (Image.fromarray((p[0].movedim(0, -1).numpy() * 255).astype("uint8")) for p in (PICTURE, OTHER))
BATCH = {"image": [PICTURE.expand(2, -1, -1, -1), OTHER.expand(2, -1, -1, -1)]}
CASES |= {
    "sd two controlnets": Case(
        build_two_controlled,
        SD + " control control_strength",
        "StableDiffusionControlNetPipeline",
        called=lambda model: {**BATCH, "controlnet_conditioning_scale": [0.5, 1.5]},
        given={"control": [PICTURE, OTHER], "control_strength": [0.5, 1.5]},
    ),
    "sd t2i": Case(
        build_adapted,
        SD + " control control_strength",
        "StableDiffusionAdapterPipeline",
        called=lambda model: {"image": PICTURE.expand(2, -1, -1, -1), "adapter_conditioning_scale": 0.7},
        given={"control": PICTURE, "control_strength": 0.7},
    ),
    "sd two t2i": Case(
        build_adapted,
        SD + " control control_strength",
        "StableDiffusionAdapterPipeline",
        {"count": 2},
        lambda model: {**BATCH, "adapter_conditioning_scale": [0.5, 1.5]},
        {"control": [PICTURE, OTHER], "control_strength": [0.5, 1.5]},
    ),
    "xl t2i": Case(
        build_adapted,
        XL + " control control_strength",
        "StableDiffusionXLAdapterPipeline",
        called=lambda model: {"image": PICTURE.expand(2, -1, -1, -1)},
        given={"control": PICTURE},
    ),
    "sd ip-adapter": Case(
        build_prompted,
        SD + " image_embedding",
        "StableDiffusionPipeline",
        called=lambda model: {"ip_adapter_image": PORTRAIT},
        given={"image_prompt": PORTRAIT},
    ),
    "xl ip-adapters": Case(
        build_prompted,
        XL + " image_embedding image_embedding_2",
        "StableDiffusionXLPipeline",
        {"tokens": (False, True)},
        lambda model: {"ip_adapter_image": [PORTRAIT, STYLE]},
        {"image_prompt": [PORTRAIT, STYLE]},
    ),
}
# Called by the same lines as others, so not taken through all that costs more.
COMBINED = (
    *("xl lcm", "xl inpainting", "xl pix2pix", "xl controlnet"),
    *("sd two t2i", "xl t2i", "sd two controlnets"),
)
# Not read from folders: weights of adapters lie in those of the U-Net.
OBJECTS = ("sd ip-adapter", "xl ip-adapters")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def exact(case: Case, folder: Path) -> latentjac.Model:
    return latentjac.load(case.pipeline(folder), dtype=torch.float64)


WITH_NEGATIVE = [
    (name, negative) for name in CASES for negative in ("", NEGATIVE) if CASES[name].negative or not negative
]


@pytest.mark.parametrize(("name", "negative"), WITH_NEGATIVE)
def test_pictures_are_those_of_diffusers(name: str, negative: str, tmp_path: Path) -> None:
    case = CASES[name]
    pipeline = case.pipeline(tmp_path)
    model = latentjac.load(pipeline)
    away = {"negative_prompt": [negative] * 2 if negative else None} if case.negative else {}
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    start = {"generator": torch.Generator().manual_seed(2)} if case.called is noisy else {"latents": noise}
    sized = any(word in case.kind for word in ("Img2Img", "Pix2Pix", "ControlNet", "Adapter"))
    sizes = {} if sized else {"height": 16, "width": 16}  # others take those of pictures
    options = {"num_inference_steps": STEPS, "guidance_scale": SCALE, "output_type": "np"}
    if case.kind == "LatentConsistencyModelPipeline":  # whose own scheduler is another
        pipeline = diffusers.StableDiffusionPipeline(**pipeline.components, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(PROMPTS, **away, **start, **sizes, **options, **case.called(model)).images
    conditioning = model.conditioning(PROMPTS, negative, SCALE, **case.given)
    assert list(conditioning) == case.names.split()
    point = latentjac.noise_point(model, 2, num_inference_steps=STEPS, conditioning=conditioning)
    point = replace(point, sample=noise * (point.noise if case.called is noisy else 1))
    ours = latentjac.sample(model, point, output_type="np")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


@pytest.mark.parametrize("name", OBJECTS)
def test_a_folder_that_diffusers_has_to_read_is_refused(name: str, tmp_path: Path) -> None:
    CASES[name].pipeline(tmp_path).save_pretrained(tmp_path / "saved")
    with pytest.raises(latentjac.LoadError, match=r"no weights of an IP-Adapter"):
        latentjac.load(tmp_path / "saved")


def test_several_networks_of_which_one_is_there_are_named(tmp_path: Path) -> None:
    CASES["sd two t2i"].pipeline(tmp_path).save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved" / "adapter_1")
    with pytest.raises(latentjac.LoadError, match=r"several networks adapter, adapter_1, \.\.\., got one \(MultiAda"):
        latentjac.load(tmp_path / "saved")


@pytest.mark.parametrize("name", [name for name in CASES if name not in OBJECTS])
def test_a_folder_gives_what_the_object_gives(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    pipeline = case.pipeline(tmp_path)
    model = latentjac.load(pipeline)
    pipeline.save_pretrained(tmp_path / "saved")
    read = latentjac.load(tmp_path / "saved")
    assert read.identity() == model.identity()
    assert read.sample_shape == model.sample_shape == (4, 8, 8)
    assert read.conditioning(PROMPTS, "", 2.0, **case.given) == model.conditioning(PROMPTS, "", 2.0, **case.given)


@pytest.mark.parametrize("name", [name for name in CASES if name not in COMBINED])
def test_from_a_picture_to_a_guided_edit(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = exact(case, tmp_path)
    plain = model.conditioning("a cat", **case.given)
    path = latentjac.invert(model, PICTURE, 5, conditioning=plain, grid=Own(), solver=Implicit(3e-4))
    assert path.psnr[0] > 40
    point = path.at(0.6).with_prompt(model, "a dog", guidance_scale=2.0)
    assert point.conditioning == model.conditioning("a dog", guidance_scale=2.0, **case.given)
    basis = latentjac.local_basis(model, point, 3, tol=1e-7)
    t, c = torch.tensor(point.timestep), point.conditioning
    features: list[torch.Tensor] = []
    module = model.network.get_submodule(model.resolve_layer("mid"))
    handle = module.register_forward_hook(lambda module, inputs, output: features.append(output))

    def mid(x: torch.Tensor) -> torch.Tensor:
        features.clear()
        model.call(model.network, x, t, c.unguided())
        return features[0]

    exact_values = torch.linalg.svdvals(dense_jacobian(mid, point.sample))
    handle.remove()
    torch.testing.assert_close(basis.s, exact_values[:3], rtol=1e-6, atol=0)
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 2.0])
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-2


def test_one_prompt_a_sample(case: Case, tmp_path: Path) -> None:
    model = exact(case, tmp_path)
    x, t = rand(2, 4, 8, 8), torch.tensor(300)
    both = model.eps(x, t, model.conditioning(PROMPTS, guidance_scale=2.0, **case.given))
    assert both.shape == x.shape
    for i, prompt in enumerate(PROMPTS):
        alone = model.eps(x[i : i + 1], t, model.conditioning(prompt, guidance_scale=2.0, **case.given))
        torch.testing.assert_close(both[i : i + 1], alone)
