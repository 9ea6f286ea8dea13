"""Families of networks: one file each, and a row in the table."""

from typing import Any

from latentjac.models.adapters.controlnet import CONTROLLED, CONTROLLED_SDXL, ControlledUNet
from latentjac.models.adapters.family import BY_HAND, Call, Encoder, Family
from latentjac.models.adapters.pixel_unet import PIXEL_UNET
from latentjac.models.adapters.sdxl import SDXL, SDXL_REFINER
from latentjac.models.adapters.text_unet import TEXT_UNET

# What `load` knows; of several that suit a network the first is taken.
FAMILIES = (PIXEL_UNET, CONTROLLED, CONTROLLED_SDXL, TEXT_UNET, SDXL, SDXL_REFINER)
# What pipelines call their networks.
NETWORK_PARTS = tuple(dict.fromkeys(family.part for family in FAMILIES))


def family_of(network: Any) -> Family | None:
    """The family of a network by its class and configuration; None for others."""
    return next((family for family in FAMILIES if family.is_of(network)), None)


__all__ = [
    "BY_HAND",
    "CONTROLLED",
    "CONTROLLED_SDXL",
    "FAMILIES",
    "NETWORK_PARTS",
    "PIXEL_UNET",
    "SDXL",
    "SDXL_REFINER",
    "TEXT_UNET",
    "Call",
    "ControlledUNet",
    "Encoder",
    "Family",
    "family_of",
]
