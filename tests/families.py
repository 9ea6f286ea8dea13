"""A small pipeline of every family, one row each: how it is built, what it is given, and how diffusers is called.

A new family of ``latentjac.models.adapters`` is a row in ``SMALL``; ``family_checks.py`` does the rest, and
``benchmarks/check_families.py`` writes what it finds into docs/families.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from networks import build_scheduler, build_tiny_unet, randomize
from pipelines import (
    TOKENS,
    build_controlled,
    build_dit,
    build_flux,
    build_latent_diffusion,
    build_pixart,
    build_sdxl,
    build_stable_diffusion,
    build_stable_diffusion_3,
)

import latentjac
from latentjac.models import adapters
from latentjac.models.adapters import FAMILIES, Family, flux

SIDE, STEPS, SCALE = 16, 4, 3.0
PICTURE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(SIDE, SIDE, dtype=torch.bool)
MASK[4:12, 2:10] = True
# How a page writes what `Model.conditioning` is given here.
SHOWN = {"image": '"photo.jpg"', "control": '"photo.jpg"', "mask": '"mouth.png"'}

Called = Callable[[latentjac.Model, torch.Tensor], dict[str, Any]]


def nothing(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Small:
    """A small pipeline of random weights.

    Attributes:
        family: Its family, by the name that ``latentjac.models.adapters`` has for it.
        build: Makes it, in a folder for files of tokenizers. A module is a network without a pipeline in diffusers.
        given: For :meth:`latentjac.Model.conditioning`, beside a prompt.
        called: With what the pipeline is called beside prompts, steps, scale and noise, of the model and the noise.
        size: For :func:`latentjac.load`.
        prompt: None for families without text.
        scale: Of guidance; 1 is none.
    """

    family: str
    build: Callable[[Path], Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    called: Called = nothing
    size: int | None = None
    prompt: str | None = "a red cat"
    scale: float = SCALE

    def source(self, folder: Path) -> Any:
        """The pipeline, or the network."""
        folder.mkdir(parents=True, exist_ok=True)
        made = self.build(folder)
        if hasattr(made, "set_progress_bar_config"):
            made.set_progress_bar_config(disable=True)
        return made

    def load(self, source: Any, **options: Any) -> latentjac.Model:
        """The model of what :meth:`source` gives."""
        scheduler = (build_scheduler(),) if isinstance(source, torch.nn.Module) else ()
        return latentjac.load(source, *scheduler, size=self.size, **options)

    def conditioning(self, model: latentjac.Model, scale: float = 1.0) -> latentjac.Conditioning:
        """Under the prompt and what else there is."""
        return model.conditioning(self.prompt, guidance_scale=scale, **self.given)

    def reference(self, source: Any, model: latentjac.Model, noise: torch.Tensor) -> torch.Tensor:
        """What diffusers makes of the noise, ``[1, H, W, 3]``, by the pipeline itself.

        It gets those of the arguments below that it takes.
        """
        if isinstance(source, torch.nn.Module):
            return self._by_scheduler(model, noise)
        offered = {
            "prompt": self.prompt,
            "latents": noise,
            "generator": torch.Generator().manual_seed(1),
            "guidance_scale": self.scale,
            "num_inference_steps": STEPS,
            "height": SIDE,
            "width": SIDE,
            "output_type": "np",
            **self.called(model, noise),
        }
        taken = inspect.signature(source.__call__).parameters
        return torch.as_tensor(source(**{name: value for name, value in offered.items() if name in taken})[0])

    def _by_scheduler(self, model: latentjac.Model, noise: torch.Tensor) -> torch.Tensor:
        """For networks that no pipeline of diffusers gives all that they take: its scheduler, guided by hand."""
        scheduler, x = model.scheduler, noise
        scheduler.set_timesteps(STEPS)
        plain = self.conditioning(model)
        away = self.conditioning(model, 2.0).guidance.negative
        for t in scheduler.timesteps:
            under, not_under = (model.call(model.network, x, t, c) for c in (plain, away))
            x = scheduler.step(not_under + self.scale * (under - not_under), t, x).prev_sample
        return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def text_unet(
    family: str, kind: str, build: Callable[..., Any] = build_stable_diffusion, *, of: Any = None, **more: Any
) -> Small:
    """A row of a pipeline class of U-Nets with text; weights so large that all that the network gets matters.

    Args:
        family: Of the row.
        kind: Class of the pipeline.
        build: Of ``pipelines.py``.
        of: Options of build.
        **more: Of the row.
    """

    def made(folder: Path) -> Any:
        pipeline = build(folder, getattr(diffusers, kind), **(of or {}))
        randomize(pipeline.unet).float()
        return pipeline

    return Small(family, made, **more)


def latent_diffusion(folder: Path) -> Any:
    pipeline = build_latent_diffusion()
    randomize(pipeline.unet).float()
    return pipeline


def inpainted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Latents of the picture without its masked part: the pipeline would draw them from the posterior."""
    seen = model.codec.encode(torch.where(MASK, 0.5, PICTURE))
    return {"image": PICTURE, "mask_image": MASK[None, None].float(), "masked_image_latents": seen, "strength": 1.0}


def pictured(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "image_guidance_scale": 1.0}


def refined(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """From the noise as it is, all the way."""
    return {"image": noise, "denoising_start": 0.001}


def classed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"class_labels": [3]}


def packed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"latents": flux.packed(noise), "max_sequence_length": 512}


def short(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """As many tokens as there are, and pictures of any size."""
    own = {"height": model.codec.size[0], "width": model.codec.size[1]}
    return {"max_sequence_length": TOKENS, "use_resolution_binning": False, "clean_caption": False, **own}


CONTROL = {"given": {"control": PICTURE}, "called": pictured}
SMALL: dict[str, Small] = {
    "ddpm": Small(
        "PIXEL_UNET",
        lambda folder: diffusers.DDIMPipeline(randomize(build_tiny_unet(size=8)).float(), build_scheduler()),
        prompt=None,
        scale=1.0,
    ),
    "latent-diffusion": Small("PIXEL_UNET", latent_diffusion, prompt=None, scale=1.0),
    "classes": Small(
        "CLASS_UNET",
        lambda folder: randomize(build_tiny_unet(size=8, num_class_embeds=4)).float(),
        {"class_label": 3, "negative_class_label": 0},
        prompt=None,
    ),
    "stable-diffusion": text_unet("TEXT_UNET", "StableDiffusionPipeline"),
    "lcm": text_unet("TEXT_UNET", "StableDiffusionPipeline", of={"time_cond_proj_dim": 18}),
    "inpainting": text_unet(
        "TEXT_UNET",
        "StableDiffusionInpaintPipeline",
        of={"in_channels": 9},
        given={"image": PICTURE, "mask": MASK},
        called=inpainted,
    ),
    "pix2pix": text_unet(
        "TEXT_UNET",
        "StableDiffusionInstructPix2PixPipeline",
        of={"in_channels": 8},
        given={"image": PICTURE},
        called=pictured,
    ),
    "controlnet": text_unet("CONTROLLED", "StableDiffusionControlNetPipeline", build_controlled, **CONTROL),
    "sdxl": text_unet("SDXL", "StableDiffusionXLPipeline", build_sdxl),
    "sdxl-refiner": text_unet(
        "SDXL_REFINER", "StableDiffusionXLImg2ImgPipeline", build_sdxl, of={"refiner": True}, called=refined
    ),
    "sdxl-controlnet": text_unet("CONTROLLED_SDXL", "StableDiffusionXLControlNetPipeline", build_controlled, **CONTROL),
    "dit": Small("DIT", lambda folder: build_dit(), {"class_label": 3}, classed, prompt=None),
    "pixart": Small("PIXART", lambda folder: build_pixart(), called=short),
    "pixart-sized": Small("PIXART_SIZED", lambda folder: build_pixart(sized=True), called=short),
    "sd3": Small("SD3", build_stable_diffusion_3),
    "flux-dev": Small("FLUX", build_flux, called=packed, size=SIDE),
    "flux-schnell": Small(
        "FLUX_SCHNELL", lambda folder: build_flux(folder, distilled=False), called=packed, size=SIDE, scale=1.0
    ),
}


def name_of(family: Family) -> str:
    """What ``latentjac.models.adapters`` calls a family."""
    return next(name for name, value in vars(adapters).items() if value is family)


def uncovered() -> set[str]:
    """Names of families without a row."""
    return {name_of(family) for family in FAMILIES} - {row.family for row in SMALL.values()}


def example(name: str, *, folder: bool) -> str:
    """Lines for docs/families.md: from a hub id or, where folders are not read, from a pipeline, to an edit.

    Args:
        name: Of a row.
        folder: Whether a folder of such a pipeline is read.
    """
    row = SMALL[name]
    source = f'"owner/{name}"' if folder else f'diffusers.DiffusionPipeline.from_pretrained("owner/{name}")'
    given = {key: SHOWN.get(key, repr(value)) for key, value in row.given.items()}
    if row.prompt is not None:
        given = {"prompt": f'"{row.prompt}"', **given}
    if row.scale != 1:
        given["guidance_scale"] = repr(row.scale)
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    under = f"conditioning=model.conditioning({arguments})" if given else ""
    return "\n".join(
        [
            f"model = latentjac.load({source})",
            f"point = latentjac.noise_point(model{', ' if under else ''}{under})",
            "basis = latentjac.local_basis(model, point, k=2, tol=0.1)",
            "edit = latentjac.edit(model, point, basis.v[0], distance=(-2, 2))",
            'edit.images[0].save("left.png")',
        ]
    )
