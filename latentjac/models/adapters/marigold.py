"""U-Nets of Stable Diffusion that make maps of a picture: depth and normals by Marigold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.joined import in_front
from latentjac.models.adapters.text_unet import TEXT_UNET, sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.seen import Seen


class MappingUNet(torch.nn.Module):
    """A U-Net under the empty text that gets latents of a picture before those of a map of it.

    Attributes:
        config: That of the U-Net.
        text: Embeddings of the empty text, ``[1, 2, channels]``.
    """

    text: torch.Tensor

    def __init__(self, unet: Any, text_encoder: Any = None, tokenizer: Any = None) -> None:
        super().__init__()
        self.unet = unet
        text = torch.zeros(1, 2, unet.config["cross_attention_dim"])
        if text_encoder is not None:
            words = tokenizer("", padding="do_not_pad", return_tensors="pt").input_ids
            with torch.no_grad():
                text = text_encoder(words.to(text_encoder.device))[0]
        self.register_buffer("text", text.to(unet.device, unet.dtype))

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the U-Net."""
        return self.unet.config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MappingUNet:
        """A new one of this configuration, with any weights."""
        from diffusers import UNet2DConditionModel

        return cls(UNet2DConditionModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """What it predicts."""
        text = self.text.expand(len(x), -1, -1)
        return self.unet(torch.cat([picture, x], dim=1), t, text, return_dict=False)[0]


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts of latents of a map, beside those of an ``"image"``."""
    return network(x, t, conditioning["image"])


MARIGOLD = Family(
    "UNet2DConditionModel",
    call,
    sample_shape,
    in_front("unet", TEXT_UNET)["layers"],
    suits=lambda config: config.get("in_channels") == 2 * config.get("out_channels", 4),
    pipelines=("Marigold",),
    conditioning=("image",),
    seen=lambda network: Seen(image="latents"),
    guidance_scale=1.0,
    requires=TEXT_UNET.requires,
    beside=("text_encoder", "tokenizer"),
    join=MappingUNet,
)
