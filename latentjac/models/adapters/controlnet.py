"""U-Nets with text whose features a ControlNet changes, after what it sees in a picture (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.sdxl import SDXL
from latentjac.models.adapters.text_unet import TEXT_UNET, added, call_with
from latentjac.models.conditioning import Conditioning
from latentjac.models.errors import LoadError

_OWN = "controlnet_"  # keys of its configuration


class ControlledUNet(torch.nn.Module):
    """A U-Net and its ControlNet as one network.

    Attributes:
        config: That of the U-Net, and that of the ControlNet under names that begin with ``controlnet_``.

    Raises:
        LoadError: If the ControlNet averages its features over the picture, which a pipeline does outside of it.
    """

    def __init__(self, unet: Any, controlnet: Any) -> None:
        super().__init__()
        self.unet, self.controlnet = unet, controlnet
        if controlnet.config.get("global_pool_conditions"):
            raise LoadError("load: config of ControlNetModel: global_pool_conditions must be False, got True")

    @property
    def config(self) -> dict[str, Any]:
        """Of both, as described above."""
        others = {f"{_OWN}{key}": value for key, value in self.controlnet.config.items() if not key.startswith("_")}
        return {**self.unet.config, **others}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ControlledUNet:
        """A new one of this configuration, with any weights."""
        from diffusers import ControlNetModel, UNet2DConditionModel

        unet = {key: value for key, value in config.items() if not key.startswith(_OWN)}
        controlnet = {key.removeprefix(_OWN): value for key, value in config.items() if key.startswith(_OWN)}
        return cls(UNet2DConditionModel.from_config(unet), ControlNetModel.from_config(controlnet))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the U-Net predicts with the features of the ControlNet, which sees ``"control"``, added to its own."""
        text, seen = conditioning["text"], conditioning["control"]
        down, mid = self.controlnet(x, t, text, seen, added_cond_kwargs=added(conditioning), return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return call_with(self.unet, x, t, conditioning, **residuals)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts; ``"control"`` is a picture ``[B, 3, height, width]`` in [0, 1]."""
    return network(x, t, conditioning)


def _controlled(family: Family) -> Family:
    return replace(
        family,
        call=call,
        layers=lambda network: {name: f"unet.{block}" for name, block in family.layers(network.unet).items()},
        conditioning=(*family.conditioning, "control"),
        requires={**family.requires, "controlnet": ("ControlNetModel",)},
        beside=("controlnet",),
        join=ControlledUNet,
    )


CONTROLLED, CONTROLLED_SDXL = _controlled(TEXT_UNET), _controlled(SDXL)
