"""U-Nets, of pixels, of classes and of text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import other_text_unets
import torch
from family_rows.given import LOW, MASK, PICTURE, flow, pictured, text_unet, told
from networks import build_scheduler, build_tiny_unet, randomize
from pipelines import build_latent_diffusion, build_sdxl
from small_pipeline import SCALE, SIDE, Small

import latentjac


def latent_diffusion(folder: Path, **options: Any) -> Any:
    pipeline = build_latent_diffusion(**options)
    randomize(pipeline.unet).float()
    return pipeline


def consistency(folder: Path) -> Any:
    network = randomize(build_tiny_unet(size=8, num_class_embeds=4)).float()
    return diffusers.ConsistencyModelPipeline(network, diffusers.CMStochasticIterativeScheduler(clip_denoised=False))


def begun(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """The noise, as the pipeline scales it itself."""
    return {"class_labels": 3, "latents": noise / model.scheduler.config.sigma_max}


def inpainted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Latents of the picture without its masked part: the pipeline would draw them from the posterior."""
    seen = model.codec.encode(torch.where(MASK, 0.5, PICTURE))
    return {"image": PICTURE, "mask_image": MASK[None, None].float(), "masked_image_latents": seen, "strength": 1.0}


def refined(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """From the noise as it is, all the way."""
    return {"image": noise, "denoising_start": 0.001}


ROWS: dict[str, Small] = {
    "ddpm": Small(
        "PIXEL_UNET",
        lambda folder: diffusers.DDIMPipeline(randomize(build_tiny_unet(size=8)).float(), build_scheduler()),
        prompt=None,
        scale=1.0,
    ),
    "consistency": Small("CLASS_UNET", consistency, {"class_label": 3}, begun, prompt=None, scale=1.0, steps=1),
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
    "sdxl": text_unet("SDXL", "StableDiffusionXLPipeline", build_sdxl),
    "sdxl-refiner": text_unet(
        "SDXL_REFINER", "StableDiffusionXLImg2ImgPipeline", build_sdxl, of={"refiner": True}, called=refined
    ),
    "super-resolution": Small(
        "LARGER",
        partial(latent_diffusion, kind=diffusers.LDMSuperResolutionPipeline, in_channels=6),
        {"image": LOW},
        lambda model, noise: {"image": LOW * 2 - 1},
        prompt=None,
        scale=1.0,
    ),
    "alt-diffusion": told(other_text_unets.build_alt_diffusion, "ALT_DIFFUSION"),
    "latent-diffusion-text": told(lambda folder: other_text_unets.build_latent_diffusion_text(), "LATENT_DIFFUSION"),
    "kandinsky-3": flow(
        "KANDINSKY_3",
        other_text_unets.build_kandinsky_3,
        lambda model, noise: {"guidance_scale": SCALE - 1},
        size=64,
    ),
    "dreamlite": flow("DREAMLITE", other_text_unets.build_dreamlite, size=SIDE, begin="prepare_latents"),
}
