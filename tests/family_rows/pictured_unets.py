"""U-Nets that are told a picture: its embedding, a map of depth, a smaller or another one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from family_rows.given import (
    AWAY,
    DEPTH,
    EVERYWHERE,
    LARGEST,
    LEFT,
    LOW,
    MASK,
    OWN,
    PHOTO,
    PICTURE,
    SIGNED,
    TOLD,
    text_unet,
    told,
)
from pictured_pipelines import (
    build_deepfloyd,
    build_depth,
    build_kandinsky,
    build_kandinsky_21,
    build_kandinsky_inpaint,
    build_marigold,
    build_painting,
    build_unclip,
    build_upscale,
    build_variation,
)
from pipelines import build_prompted
from small_pipeline import Small

import latentjac


def depth(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "depth_map": DEPTH[0], "strength": 1.0}


def upscaled(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """A picture with the noise that a model draws by default."""
    return {"image": LOW * 2 - 1, "noise_level": 10, "generator": torch.Generator().manual_seed(0)}


def unclip(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PHOTO, "noise_level": 100, "generator": torch.Generator().manual_seed(0)}


def embedded(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image_embeds": OWN, "negative_image_embeds": AWAY}


def repainted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """A picture of which nothing is kept: what is kept the pipeline would put into samples at each step."""
    given = {"image": LARGEST * 2 - 1, "mask_image": torch.ones(1, 1, 64, 64)}
    return {**embedded(model, noise), **given}


def painted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"example_image": LEFT, "image": SIGNED, "mask_image": MASK[None, None].float()}


def mapped(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "processing_resolution": 0, "generator": None}


ROWS: dict[str, Small] = {
    "ip-adapter": text_unet(
        "TEXT_UNET",
        "StableDiffusionPipeline",
        build_prompted,
        given={"image_prompt": PHOTO},
        called=lambda model, noise: {"ip_adapter_image": PHOTO},
        opened='pipeline = diffusers.StableDiffusionPipeline.from_pretrained("owner/stable-diffusion")\n'
        'pipeline.load_ip_adapter("owner/ip-adapter", subfolder="models", weight_name="ip-adapter_sd15.safetensors")',
    ),
    "variation": told(
        build_variation,
        "VARIATION",
        given={"image_prompt": PHOTO},
        called=lambda model, noise: {"image": PHOTO},
        prompt=None,
    ),
    "unclip": told(build_unclip, "UNCLIP", given={"image_prompt": PHOTO, "noise_level": 100}, called=unclip),
    "upscaler": told(build_upscale, "UPSCALED", given={"image": LOW, "noise_level": 10}, called=upscaled),
    "depth": told(build_depth, "DEPTH", given={"control": DEPTH}, called=depth, begin="prepare_latents"),
    "kandinsky-2-2-decoder": told(build_kandinsky, "KANDINSKY", given=TOLD, called=embedded, prompt=None),
    "kandinsky-2-1": told(build_kandinsky_21, "KANDINSKY_21", given=TOLD, called=embedded, scale=1.5),
    "paint-by-example": told(
        build_painting,
        "PAINTING",
        given={"image_prompt": LEFT, "image": PICTURE, "mask": MASK},
        called=painted,
        prompt=None,
    ),
    "kandinsky-2-2-inpainting": told(
        build_kandinsky_inpaint,
        "KANDINSKY_INPAINT",
        given={**TOLD, "image": LARGEST, "mask": EVERYWHERE},
        called=repainted,
        prompt=None,
    ),
    "kandinsky-2-1-inpainting": told(
        partial(build_kandinsky_21, masked=True),
        "KANDINSKY_21_INPAINT",
        given={**TOLD, "image": LARGEST, "mask": EVERYWHERE},
        called=repainted,
        scale=1.5,
    ),
    "marigold-depth": told(build_marigold, "MARIGOLD", given={"image": PICTURE}, called=mapped, prompt=None, scale=1.0),
    "deepfloyd": told(build_deepfloyd, "DEEPFLOYD", begin="prepare_intermediate_images"),
    "deepfloyd-upscaler": told(
        partial(build_deepfloyd, upscaled=True),
        "DEEPFLOYD_UPSCALED",
        given={"image": LOW, "noise_level": 10},
        called=upscaled,
        begin="prepare_intermediate_images",
    ),
}
