"""U-Nets with text whose features others change, after what they see in a picture: ControlNets, T2I-Adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.sdxl import SDXL
from latentjac.models.adapters.text_unet import TEXT_UNET, added, call_with
from latentjac.models.conditioning import Conditioning
from latentjac.models.errors import LoadError

_KEY = re.compile(r"(controlnet|adapter)(?:_(\d+))?_(.*)")  # of the configuration of one beside the U-Net


class JoinedUNet(torch.nn.Module):
    """A U-Net and the networks beside it as one.

    Attributes:
        config: That of the U-Net, and those of the others under names that begin with :attr:`part`, of the second and
            further ones with ``controlnet_2_`` and so on.
        part: What a pipeline calls the others.
        others: Each of them.
        control_channels: Channels of the picture that each of them sees.
    """

    part = ""
    unet: Any
    others: Sequence[Any]

    @property
    def config(self) -> dict[str, Any]:
        """Of all, as described above."""
        config = dict(self.unet.config)
        for i, other in enumerate(self.others):
            start = self.part if i == 0 else f"{self.part}_{i + 1}"
            config |= {f"{start}_{key}": value for key, value in other.config.items() if not key.startswith("_")}
        return config

    @classmethod
    def _configs(cls, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """That of the U-Net, and those of the others."""
        own: dict[str, Any] = {}
        others: dict[int, dict[str, Any]] = {}
        for key, value in config.items():
            found = _KEY.fullmatch(key)
            if found is None or found[1] != cls.part:
                own[key] = value
            else:
                others.setdefault(int(found[2] or 1), {})[found[3]] = value
        return own, [others[i] for i in sorted(others)]


class ControlledUNet(JoinedUNet):
    """A U-Net and its ControlNet (Zhang et al. 2023), or several, as one network; see :class:`JoinedUNet`.

    Raises:
        LoadError: If a ControlNet averages its features over the picture, which a pipeline does outside of it.
    """

    part = "controlnet"

    def __init__(self, unet: Any, controlnet: Any) -> None:
        super().__init__()
        self.unet, self.controlnet = unet, controlnet
        for net in self.others:
            if net.config.get("global_pool_conditions"):
                raise LoadError("load: config of ControlNetModel: global_pool_conditions must be False, got True")

    @property
    def others(self) -> list[Any]:  # type: ignore[override]
        """The ControlNets."""
        return list(getattr(self.controlnet, "nets", [self.controlnet]))

    @property
    def control_channels(self) -> tuple[int, ...]:
        """Channels of the picture that each sees."""
        return tuple(net.config.get("conditioning_channels", 3) for net in self.others)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ControlledUNet:
        """A new one of this configuration, with any weights."""
        from diffusers import ControlNetModel, UNet2DConditionModel
        from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

        unet, others = cls._configs(config)
        nets: list[Any] = [ControlNetModel.from_config(other) for other in others]
        return cls(UNet2DConditionModel.from_config(unet), nets[0] if len(nets) == 1 else MultiControlNetModel(nets))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the U-Net predicts with the features of the ControlNets, by their strengths, added to its own."""
        text, total = conditioning["text"], None
        for net, seen, strength in _seen(self, conditioning):
            down, mid = net(x, t, text, seen, added_cond_kwargs=added(conditioning), return_dict=False)
            features = [strength * part for part in (*down, mid)]
            total = features if total is None else [a + b for a, b in zip(total, features, strict=True)]
        *down, mid = total or []
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return call_with(self.unet, x, t, conditioning, **residuals)


class AdaptedUNet(JoinedUNet):
    """A U-Net and its T2I-Adapter (Mou et al. 2023), or several, as one network; see :class:`JoinedUNet`."""

    part = "adapter"

    def __init__(self, unet: Any, adapter: Any) -> None:
        super().__init__()
        self.unet, self.adapter = unet, adapter

    @property
    def others(self) -> list[Any]:  # type: ignore[override]
        """The T2I-Adapters."""
        return list(getattr(self.adapter, "adapters", [self.adapter]))

    @property
    def control_channels(self) -> tuple[int, ...]:
        """Channels of the picture that each sees."""
        return tuple(adapter.config["in_channels"] for adapter in self.others)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdaptedUNet:
        """A new one of this configuration, with any weights."""
        from diffusers import MultiAdapter, T2IAdapter, UNet2DConditionModel

        unet, others = cls._configs(config)
        made: list[Any] = [T2IAdapter.from_config(other) for other in others]
        return cls(UNet2DConditionModel.from_config(unet), made[0] if len(made) == 1 else MultiAdapter(made))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the U-Net predicts with the features of the T2I-Adapters, by their strengths, added inside."""
        total = None
        for adapter, seen, strength in _seen(self, conditioning):
            features = [strength * part for part in adapter(seen)]
            total = features if total is None else [a + b for a, b in zip(total, features, strict=True)]
        return call_with(self.unet, x, t, conditioning, down_intrablock_additional_residuals=total)


def _seen(network: Any, conditioning: Conditioning) -> list[tuple[Any, torch.Tensor, torch.Tensor]]:
    """Each of the others of a network, the picture that it sees, and the factor of its features, ``[B, 1, 1, 1]``."""
    pictures = conditioning["control"].split(network.control_channels, dim=1)
    strengths = conditioning["control_strength"][..., None, None, None].unbind(1)
    return list(zip(network.others, pictures, strengths, strict=True))


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts.

    ``"control"`` holds the pictures that the others see, behind each other, ``[B, channels, height, width]`` in [0, 1],
    and ``"control_strength"`` the factors of their features, ``[B, others]``.
    """
    return network(x, t, conditioning)


def _joined(family: Family, kind: type[JoinedUNet], classes: tuple[str, ...]) -> Family:
    return replace(
        family,
        call=call,
        layers=lambda network: {name: f"unet.{block}" for name, block in family.layers(network.unet).items()},
        embeddings=lambda network: family.embeddings(network.unet),
        conditioning=(*family.conditioning, "control", "control_strength"),
        requires={**family.requires, kind.part: classes},
        beside=(kind.part,),
        join=kind,
    )


_CONTROLNETS, _T2I = ("ControlNetModel", "MultiControlNetModel"), ("T2IAdapter", "MultiAdapter")
CONTROLLED, CONTROLLED_SDXL = (_joined(family, ControlledUNet, _CONTROLNETS) for family in (TEXT_UNET, SDXL))
ADAPTED, ADAPTED_SDXL = (_joined(family, AdaptedUNet, _T2I) for family in (TEXT_UNET, SDXL))
