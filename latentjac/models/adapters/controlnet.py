"""U-Nets with text whose features others change, after what they see in a picture: ControlNets, T2I-Adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.adapters.joined import Joined, call, in_front
from latentjac.models.adapters.sdxl import SDXL
from latentjac.models.adapters.text_unet import TEXT_UNET, added, call_with
from latentjac.models.conditioning import Conditioning
from latentjac.models.errors import LoadError
from latentjac.models.seen import MODE


class JoinedUNet(Joined):
    """A U-Net and the networks beside it as one; see :class:`Joined`."""

    own = "unet"
    unet: Any


class ControlledUNet(JoinedUNet):
    """A U-Net and its ControlNet (Zhang et al. 2023), or several, as one network; see :class:`JoinedUNet`.

    Raises:
        LoadError: If a ControlNet averages its features over the picture, which a pipeline does outside of it.
    """

    part = "controlnet"
    kinds = "ControlNetModel", "MultiControlNetModel"

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
        from diffusers import UNet2DConditionModel
        from diffusers.models import controlnets

        unet, others = cls._configs(config)
        one, several = (getattr(controlnets, kind) for kind in cls.kinds)
        nets: list[Any] = [one.from_config(other) for other in others]
        return cls(UNet2DConditionModel.from_config(unet), nets[0] if len(nets) == 1 else several(nets))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the U-Net predicts with the features of the ControlNets, by their strengths, added to its own."""
        total = None
        for i, (_, seen, strength) in enumerate(_seen(self, conditioning)):
            down, mid = self._features(i, seen, x, t, conditioning)
            features = [strength * part for part in (*down, mid)]
            total = features if total is None else [a + b for a, b in zip(total, features, strict=True)]
        *down, mid = total or []
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return call_with(self.unet, x, t, conditioning, **residuals)

    def _features(
        self, index: int, seen: torch.Tensor, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
    ) -> Any:
        """Those of a ControlNet, of the blocks on the way down and of the middle one."""
        told = {"added_cond_kwargs": added(conditioning), "return_dict": False}
        return self.others[index](x, t, conditioning["text"], seen, **told)


class UnionUNet(ControlledUNet):
    """The same with ControlNets that each know several kinds of pictures, and are told which one they see.

    Attributes:
        control_modes: How many kinds each knows.
    """

    kinds = "ControlNetUnionModel", "MultiControlNetUnionModel"

    @property
    def control_modes(self) -> tuple[int, ...]:
        """How many kinds of pictures each knows."""
        return tuple(net.config["num_control_type"] for net in self.others)

    def _features(
        self, index: int, seen: torch.Tensor, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
    ) -> Any:
        mode = conditioning[MODE][:, index]
        kinds = torch.nn.functional.one_hot(mode, self.control_modes[index]).to(seen.dtype)
        told = {"added_cond_kwargs": added(conditioning), "return_dict": False}
        return self.others[index](x, t, conditioning["text"], [seen], kinds, [mode], conditioning_scale=1.0, **told)


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


def _joined(family: Family, kind: type[JoinedUNet], classes: tuple[str, ...], *more: str) -> Family:
    return replace(
        family,
        call=call,
        **in_front("unet", family),
        embeddings=lambda network: family.embeddings(network.unet),
        conditioning=(*family.conditioning, "control", "control_strength", *more),
        requires={**family.requires, kind.part: classes},
        beside=(kind.part,),
        join=kind,
    )


_T2I = ("T2IAdapter", "MultiAdapter")
CONTROLLED, CONTROLLED_SDXL = (_joined(family, ControlledUNet, ControlledUNet.kinds) for family in (TEXT_UNET, SDXL))
UNION_SDXL = _joined(SDXL, UnionUNet, UnionUNet.kinds, MODE)
ADAPTED, ADAPTED_SDXL = (_joined(family, AdaptedUNet, _T2I) for family in (TEXT_UNET, SDXL))
