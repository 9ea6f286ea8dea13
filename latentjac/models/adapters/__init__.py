"""Families of networks: one file each, and a row in the table."""

from latentjac.models.adapters.family import Call, Family
from latentjac.models.adapters.pixel_unet import PIXEL_UNET
from latentjac.models.adapters.text_unet import TEXT_UNET

# What `load` knows.
FAMILIES = (PIXEL_UNET, TEXT_UNET)

__all__ = ["FAMILIES", "PIXEL_UNET", "TEXT_UNET", "Call", "Family"]
