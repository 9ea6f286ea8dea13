"""Transformers that see a picture beside the sample: to edit, to complete, or as a control."""

from __future__ import annotations

from functools import partial

import diffusers
import image_transformers
import packed_transformers
import torch
from controlled_pipelines import (
    build_cached_flux2,
    build_kandinsky_5_edit,
    build_qwen_image_edit,
    build_seeing_cog_view4,
    build_seeing_flux,
)
from family_rows.given import HOLE, MASK, PHOTO, PICTURE, SCENE, SEEN, SIGNED, flow, folded, packed, shown_to
from small_pipeline import SIDE, Small

ROWS: dict[str, Small] = {
    "flux-control": Small(
        "FLUX_CONTROL",
        partial(build_seeing_flux, kind=diffusers.FluxControlPipeline, in_channels=32, out_channels=16),
        SEEN,
        shown_to(packed),
        size=SIDE,
    ),
    "flux-fill": Small(
        "FLUX_FILL",
        partial(build_seeing_flux, kind=diffusers.FluxFillPipeline, in_channels=48, out_channels=16),
        HOLE,
        lambda model, noise: {**packed(model, noise), "image": SIGNED, "mask_image": MASK[None, None].float()},
        size=SIDE,
    ),
    "flux-kontext": Small(
        "FLUX_KONTEXT",
        partial(build_seeing_flux, kind=diffusers.FluxKontextPipeline),
        {"image": PICTURE},
        lambda model, noise: {**packed(model, noise), "image": SIGNED, "_auto_resize": False, "max_area": SIDE**2},
        size=SIDE,
    ),
    "cogview-4-control": flow("COG_VIEW4_CONTROL", build_seeing_cog_view4, shown_to(), given=SEEN),
    "qwen-image-edit": flow(
        "QWEN_IMAGE_EDIT",
        build_qwen_image_edit,
        lambda model, noise: {**folded(model, noise), "image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "qwen-image-edit-plus": flow(
        "QWEN_IMAGE_EDIT_PLUS",
        partial(build_qwen_image_edit, diffusers.QwenImageEditPlusPipeline),
        lambda model, noise: {**folded(model, noise), "image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "flux-2-klein-inpainting": flow(
        "FLUX2_KLEIN_INPAINT",
        partial(image_transformers.build_flux2, diffusers.Flux2KleinInpaintPipeline),
        lambda model, noise: {"image": PHOTO, "mask_image": torch.ones(1, 1, SIDE, SIDE), "strength": 1.0},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "flux-2-klein-kv": flow(
        "FLUX2_KLEIN_KV",
        build_cached_flux2,
        lambda model, noise: {"image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
        scale=1.0,
    ),
    "kandinsky-5-edit": flow(
        "KANDINSKY_5_EDIT",
        build_kandinsky_5_edit,
        lambda model, noise: {"latents": noise.movedim(1, 3)[:, None], "image": SCENE},
        given={"image": SCENE},
        size=64,
        tol=1e-5,
    ),
    "bria-fibo-edit": flow(
        "FIBO_EDIT",
        partial(packed_transformers.build_fibo, diffusers.BriaFiboEditPipeline),
        lambda model, noise: {
            "latents": noise.flatten(2).transpose(1, 2),
            "image": PHOTO,
            "height": 128,
            "width": 128,
        },
        given={"image": PHOTO},
        size=SIDE,
        prompt='{"edit_instruction": "a red cat"}',
    ),
}
