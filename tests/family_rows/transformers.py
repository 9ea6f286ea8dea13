"""Transformers of pictures."""

from __future__ import annotations

from functools import partial
from typing import Any

import image_transformers
import torch
from family_rows.given import flow, folded, packed, tokens, unbinned
from pipelines import TOKENS, build_dit, build_flux, build_pixart, build_stable_diffusion_3
from small_pipeline import SCALE, SIDE, Small

import latentjac


def classed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"class_labels": [3]}


def short(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """As many tokens as there are, and pictures of any size."""
    own = {"height": model.codec.size[0], "width": model.codec.size[1]}
    return {"max_sequence_length": TOKENS, "use_resolution_binning": False, "clean_caption": False, **own}


ROWS: dict[str, Small] = {
    "dit": Small("DIT", lambda folder: build_dit(), {"class_label": 3}, classed, prompt=None),
    "pixart": Small("PIXART", lambda folder: build_pixart(), called=short),
    "pixart-sized": Small("PIXART_SIZED", lambda folder: build_pixart(sized=True), called=short),
    "sd3": Small("SD3", build_stable_diffusion_3),
    "flux-dev": Small("FLUX", build_flux, called=packed, size=SIDE),
    "flux-schnell": Small(
        "FLUX_SCHNELL", lambda folder: build_flux(folder, distilled=False), called=packed, size=SIDE, scale=1.0
    ),
    "sana": flow("SANA", image_transformers.build_sana, unbinned, tol=1e-5),
    "sana-sprint": flow(
        "SANA_SPRINT",
        partial(image_transformers.build_sana, distilled=True),
        lambda model, noise: unbinned(model, noise) | {"intermediate_timesteps": None},
        tol=1e-5,
        steps=1,
    ),
    "aura-flow": flow("AURA_FLOW", image_transformers.build_aura_flow, tol=1e-5),
    "hunyuan-dit": flow("HUNYUAN_DIT", image_transformers.build_hunyuan_dit, unbinned),
    "lumina-2": flow("LUMINA2", image_transformers.build_lumina2, tol=1e-5),
    "z-image": flow(
        "Z_IMAGE", image_transformers.build_z_image, lambda model, noise: {"guidance_scale": SCALE - 1}, size=SIDE
    ),
    "cogview-3": flow("COG_VIEW3", image_transformers.build_cog_view3),
    "cogview-4": flow("COG_VIEW4", image_transformers.build_cog_view4),
    "qwen-image": flow("QWEN_IMAGE", image_transformers.build_qwen_image, folded, size=SIDE),
    "chroma": flow("CHROMA", image_transformers.build_chroma, tokens, size=SIDE),
    "flux-2-dev": flow("FLUX2", partial(image_transformers.build_flux2, large=True), size=SIDE),
    "flux-2-klein": flow("FLUX2_KLEIN", image_transformers.build_flux2, size=SIDE),
}
