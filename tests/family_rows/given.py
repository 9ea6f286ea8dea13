"""What rows of families share: pictures, how pipelines of diffusers are called, and makers of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from networks import randomize
from PIL import Image
from pipelines import build_stable_diffusion
from small_pipeline import SCALE, SIDE, Called, Small, nothing

import latentjac
from latentjac.models.adapters import flux

PICTURE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(SIDE, SIDE, dtype=torch.bool)
MASK[4:12, 2:10] = True
EVERYWHERE = torch.ones(64, 64, dtype=torch.bool)
LOW = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LARGER, LARGEST = (torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) for side in (32, 64))
DEPTH = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
OWN, AWAY = torch.rand(2, 1, 12, generator=torch.Generator().manual_seed(3))
PHOTO = Image.fromarray((PICTURE[0].movedim(0, -1).numpy() * 255).astype("uint8"))
SCENE = Image.fromarray((LARGEST[0].movedim(0, -1).numpy() * 255).astype("uint8"))
LEFT = PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
SIGNED = PICTURE * 2 - 1  # as pipelines have pictures that are tensors
SEEN = {"control": PICTURE}
HOLE = {"image": PICTURE, "mask": MASK}
TOLD = {"image_embedding": OWN, "negative_image_embedding": AWAY}


def pictured(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "image_guidance_scale": 1.0}


CONTROL = {"given": {"control": PICTURE}, "called": pictured}


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


def packed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"latents": flux.packed(noise), "max_sequence_length": 512}


def told(build: Callable[..., Any], family: str, **more: Any) -> Small:
    """A row of U-Nets that are told a picture; weights so large that all that the network gets matters.

    Args:
        build: Of ``pictured_pipelines.py``.
        family: Of the row.
        **more: Of the row.
    """

    def made(folder: Path) -> Any:
        pipeline = build(folder)
        randomize(pipeline.unet).float()
        return pipeline

    return Small(family, made, **more)


def flow(family: str, build: Callable[[], Any], called: Called = nothing, **more: Any) -> Small:
    """A row of transformers whose builders need no folder."""
    return Small(family, lambda folder: build(), called=called, **more)


def unbinned(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Pictures of any size."""
    return {"use_resolution_binning": False}


def folded(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Latents as packed tokens, with what is led away from for pipelines that guide only then."""
    own = {"guidance_scale": None, "true_cfg_scale": SCALE}
    return {"latents": flux.packed(noise), "negative_prompt": "", **own}


def tokens(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"latents": flux.packed(noise)}


def shown_to(called: Called = nothing, **more: Any) -> Called:
    """What pipelines with ControlNets of transformers are called with, beside what the row without is."""
    return lambda model, noise: {**called(model, noise), "control_image": SIGNED, **more}
