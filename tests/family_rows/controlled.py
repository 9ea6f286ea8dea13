"""Networks with a ControlNet or a T2I-Adapter."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import other_text_unets
import torch
from controlled_pipelines import (
    build_controlled_flux,
    build_controlled_hunyuan_dit,
    build_controlled_qwen_image,
    build_controlled_sana,
    build_controlled_sd3,
    build_controlled_z_image,
)
from family_rows.given import (
    CONTROL,
    HOLE,
    LARGER,
    LARGEST,
    MASK,
    PICTURE,
    SEEN,
    SIGNED,
    flow,
    folded,
    packed,
    shown_to,
    text_unet,
    unbinned,
)
from pipelines import build_adapted, build_controlled, build_union
from small_pipeline import SCALE, SIDE, Small

import latentjac


def scaled_less(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Guidance that the pipeline counts from 0 on; its ControlNets are weaker by default."""
    return {"guidance_scale": SCALE - 1, "controlnet_conditioning_scale": 1.0}


ROWS: dict[str, Small] = {
    "controlnet": text_unet("CONTROLLED", "StableDiffusionControlNetPipeline", build_controlled, **CONTROL),
    "sdxl-controlnet": text_unet("CONTROLLED_SDXL", "StableDiffusionXLControlNetPipeline", build_controlled, **CONTROL),
    "sdxl-controlnet-union": text_unet(
        "UNION_SDXL",
        "StableDiffusionXLControlNetUnionPipeline",
        build_union,
        given={"control": PICTURE, "control_mode": 1},
        called=lambda model, noise: {"control_image": [PICTURE], "control_mode": [1]},
    ),
    "t2i-adapter": text_unet("ADAPTED", "StableDiffusionAdapterPipeline", build_adapted, **CONTROL),
    "sdxl-t2i-adapter": text_unet("ADAPTED_SDXL", "StableDiffusionXLAdapterPipeline", build_adapted, **CONTROL),
    "controlnet-xs": text_unet(
        "XS", "StableDiffusionControlNetXSPipeline", other_text_unets.build_controlled_xs, **CONTROL
    ),
    "sdxl-controlnet-xs": text_unet(
        "XS_SDXL", "StableDiffusionXLControlNetXSPipeline", other_text_unets.build_controlled_xs, **CONTROL
    ),
    "flux-controlnet": Small("CONTROLLED_FLUX", build_controlled_flux, SEEN, shown_to(packed), size=SIDE),
    "flux-controlnet-union": Small(
        "CONTROLLED_FLUX",
        partial(build_controlled_flux, num_mode=3),
        {**SEEN, "control_mode": 2},
        shown_to(packed, control_mode=2),
        size=SIDE,
    ),
    "flux-controlnet-pixels": Small(
        "CONTROLLED_FLUX",
        partial(build_controlled_flux, conditioning_embedding_channels=4, patch_size=2),
        {"control": LARGEST},
        shown_to(packed, control_image=LARGEST * 2 - 1),
        size=64,
    ),
    "sd3-controlnet": Small("CONTROLLED_SD3", build_controlled_sd3, SEEN, shown_to()),
    "sd3-controlnet-inpainting": Small(
        "CONTROLLED_SD3",
        partial(
            build_controlled_sd3,
            kind=diffusers.StableDiffusion3ControlNetInpaintingPipeline,
            extra_conditioning_channels=1,
        ),
        HOLE,
        shown_to(control_mask=MASK[None, None].float()),
    ),
    "qwen-image-controlnet": flow(
        "CONTROLLED_QWEN_IMAGE", build_controlled_qwen_image, shown_to(folded), given=SEEN, size=SIDE
    ),
    "qwen-image-controlnet-inpainting": flow(
        "CONTROLLED_QWEN_IMAGE",
        partial(
            build_controlled_qwen_image, kind=diffusers.QwenImageControlNetInpaintPipeline, extra_condition_channels=4
        ),
        shown_to(folded, control_mask=MASK[None, None].float()),
        given=HOLE,
        size=SIDE,
    ),
    "z-image-controlnet": flow(
        "CONTROLLED_Z_IMAGE", build_controlled_z_image, shown_to(scaled_less), given=SEEN, size=SIDE
    ),
    "z-image-controlnet-inpainting": flow(
        "COMPLETED_Z_IMAGE",
        partial(build_controlled_z_image, kind=diffusers.ZImageControlNetInpaintPipeline, control_in_dim=9),
        shown_to(scaled_less, image=SIGNED, mask_image=MASK[None, None].float()),
        given={**SEEN, **HOLE},
        size=SIDE,
    ),
    "sana-controlnet": flow(
        "CONTROLLED_SANA",
        build_controlled_sana,
        shown_to(unbinned, control_image=LARGER * 2 - 1),
        given={"control": LARGER},
        tol=1e-5,
    ),
    "hunyuan-dit-controlnet": flow(
        "CONTROLLED_HUNYUAN_DIT",
        build_controlled_hunyuan_dit,
        shown_to(unbinned, control_image=LARGEST * 2 - 1),
        given={"control": LARGEST},
    ),
}
