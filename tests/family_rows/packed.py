"""Further transformers of pictures, most of which pack patches of latents into tokens."""

from __future__ import annotations

import packed_transformers
import torch
from family_rows.given import flow, tokens, unbinned
from small_pipeline import SCALE, SIDE, Small

from latentjac.models.adapters import flux

ROWS: dict[str, Small] = {
    "ovis-image": flow("OVIS_IMAGE", packed_transformers.build_ovis_image, tokens, size=SIDE),
    "longcat-image": flow(
        "LONGCAT_IMAGE",
        packed_transformers.build_longcat_image,
        lambda model, noise: {"latents": flux.packed(noise), "enable_prompt_rewrite": False},
        size=SIDE,
    ),
    "bria": flow("BRIA", packed_transformers.build_bria, tokens, size=SIDE),
    "bria-fibo": flow(
        "FIBO",
        packed_transformers.build_fibo,
        lambda model, noise: {"latents": noise.flatten(2).transpose(1, 2), "height": 128, "width": 128},
        size=SIDE,
    ),
    "krea-2": flow(
        "KREA2",
        packed_transformers.build_krea2,
        lambda model, noise: {"latents": flux.packed(noise), "guidance_scale": SCALE - 1},
        size=SIDE,
        tol=1e-5,
    ),
    "ernie-image": flow("ERNIE_IMAGE", packed_transformers.build_ernie_image, size=SIDE, tol=1e-5),
    "prx": flow("PRX", packed_transformers.build_prx, unbinned, size=SIDE),
    "lumina": flow("LUMINA", packed_transformers.build_lumina, size=(64, 128)),
    "hunyuan-image": flow(
        "HUNYUAN_IMAGE", packed_transformers.build_hunyuan_image, size=SIDE, prompt="a 'red' cat", tol=1e-5
    ),
    "kandinsky-5": flow(
        "KANDINSKY_5",
        packed_transformers.build_kandinsky_5,
        lambda model, noise: {"latents": noise.movedim(1, 3)[:, None]},
        size=64,
        tol=1e-5,
    ),
    "hidream": flow("HIDREAM", packed_transformers.build_hidream, size=SIDE, tol=1e-5),
    "bria-fibo-2": flow(
        "FIBO2",
        packed_transformers.build_fibo_2,
        lambda model, noise: {"latents": torch.nn.functional.pixel_shuffle(noise, 2)},
        size=SIDE,
        tol=1e-5,
    ),
    "nucleus-image": flow("NUCLEUS", packed_transformers.build_nucleus, tokens, size=SIDE, tol=1e-5),
}
