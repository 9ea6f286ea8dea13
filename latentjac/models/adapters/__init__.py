"""Families of networks: one file each, and a row in the table."""

from collections.abc import Mapping
from typing import Any

from latentjac.models.adapters.class_unet import CLASS_UNET
from latentjac.models.adapters.cogvideox import COGVIDEOX
from latentjac.models.adapters.controlnet import CONTROLLED, CONTROLLED_SDXL, ControlledUNet
from latentjac.models.adapters.dit import DIT
from latentjac.models.adapters.family import BY_HAND, Call, Encoder, Family
from latentjac.models.adapters.flux import FLUX, FLUX_SCHNELL
from latentjac.models.adapters.ltx import LTX
from latentjac.models.adapters.pixart import PIXART, PIXART_SIZED
from latentjac.models.adapters.pixel_unet import PIXEL_UNET
from latentjac.models.adapters.sd3 import SD3
from latentjac.models.adapters.sdxl import SDXL, SDXL_REFINER
from latentjac.models.adapters.stable_audio import STABLE_AUDIO
from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.adapters.wan import WAN

# What `load` knows; of several that suit a network the first is taken.
FAMILIES = (
    PIXEL_UNET, CLASS_UNET, CONTROLLED, CONTROLLED_SDXL, TEXT_UNET, SDXL, SDXL_REFINER, DIT, PIXART, PIXART_SIZED, SD3,
    FLUX, FLUX_SCHNELL, WAN, LTX, COGVIDEOX, STABLE_AUDIO,
)  # fmt: skip
# Of networks that had one class before diffusers 0.30, and have one each since: by the kind of their norm.
_NEW_CLASSES = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
# What pipelines call their networks.
NETWORK_PARTS = tuple(dict.fromkeys(family.part for family in FAMILIES))


def family_of(network: Any) -> Family | None:
    """The family of a network by its class and configuration; None for others."""
    return next((family for family in FAMILIES if family.is_of(network)), None)


def class_now(kind: str, config: Mapping[str, Any]) -> str:
    """What diffusers calls the class of a network of a file today."""
    return _NEW_CLASSES.get(str(config.get("norm_type")), kind) if kind == "Transformer2DModel" else kind


__all__ = [
    "BY_HAND",
    "CLASS_UNET",
    "COGVIDEOX",
    "CONTROLLED",
    "CONTROLLED_SDXL",
    "DIT",
    "FAMILIES",
    "FLUX",
    "FLUX_SCHNELL",
    "LTX",
    "NETWORK_PARTS",
    "PIXART",
    "PIXART_SIZED",
    "PIXEL_UNET",
    "SD3",
    "SDXL",
    "SDXL_REFINER",
    "STABLE_AUDIO",
    "TEXT_UNET",
    "WAN",
    "Call",
    "ControlledUNet",
    "Encoder",
    "Family",
    "class_now",
    "family_of",
]
