"""Transformers whose features ControlNets change, after what these see in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters import flux, hunyuan_dit, ip_adapters, qwen_image, sana, sd3, z_image
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.joined import Joined, call, in_front
from latentjac.models.conditioning import Conditioning
from latentjac.models.seen import MODE, Seen
from latentjac.models.text import GUIDANCE_EMBEDDING


class ControlledTransformer(Joined):
    """A transformer and its ControlNet, or several, as one network; see :class:`Joined`.

    Attributes:
        classes: What diffusers calls the transformer, a ControlNet, and several of these.
    """

    own, part = "transformer", "controlnet"
    classes: tuple[str, ...] = ()

    def __init__(self, transformer: Any, controlnet: Any) -> None:
        super().__init__()
        self.transformer, self.controlnet = transformer, controlnet

    @property
    def others(self) -> list[Any]:  # type: ignore[override]
        """The ControlNets."""
        return list(getattr(self.controlnet, "nets", [self.controlnet]))

    @property
    def control_channels(self) -> tuple[int, ...]:
        """Channels of the latents that each sees."""
        return (self.transformer.config["in_channels"],) * len(self.others)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ControlledTransformer:
        """A new one of this configuration, with any weights."""
        import diffusers

        own, others = cls._configs(config)
        transformer, one, *several = (getattr(diffusers, kind) for kind in cls.classes)
        nets = [one.from_config(other) for other in others]
        return cls(transformer.from_config(own), nets[0] if len(nets) == 1 else several[0](nets))

    def seen(self, conditioning: Conditioning) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
        """Each of the ControlNets, what it sees, and the factor of its features, ``[B, 1, 1]``."""
        pictures = conditioning["control"].split(self.control_channels, dim=1)
        yield from zip(self.others, pictures, strengths(conditioning), strict=True)


def strengths(conditioning: Conditioning) -> tuple[torch.Tensor, ...]:
    """Factors of the features of ControlNets, ``[B, 1, 1]`` each."""
    return conditioning["control_strength"][..., None, None].unbind(1)


def total(features: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """The sum of those of several ControlNets, by blocks."""
    return [sum(parts[1:], parts[0]) for parts in zip(*features, strict=True)]


class ControlledFlux(ControlledTransformer):
    """Flux with ControlNets: on latents, or on pixels; those of several kinds of pictures get the number of theirs."""

    classes = ("FluxTransformer2DModel", "FluxControlNetModel", "FluxMultiControlNetModel")

    @property
    def on_pixels(self) -> bool:
        """Whether the ControlNets see pixels."""
        return self.others[0].input_hint_block is not None

    @property
    def control_channels(self) -> tuple[int, ...]:
        """Channels of the pixels or latents that each sees."""
        each = 3 if self.on_pixels else self.transformer.config["in_channels"] // 4
        return (each,) * len(self.others)

    @property
    def control_modes(self) -> tuple[int, ...]:
        """How many kinds of pictures each knows."""
        return tuple(net.config["num_mode"] or 1 for net in self.others)

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity with the features of the ControlNets added behind blocks."""
        given, tokens = flux.arguments(x, t, conditioning), flux.packed(x)
        scale = conditioning.get(GUIDANCE_EMBEDDING)
        found = []
        for i, (net, picture, strength) in enumerate(self.seen(conditioning)):
            seen = 2 * picture - 1 if self.on_pixels else flux.packed(picture)
            mode = conditioning[MODE][:, i, None] if net.union else None
            own = scale if net.config["guidance_embeds"] else None
            found.append(net(tokens, seen, mode, strength, guidance=own, **given))
        joint, single = (total([features or () for features in of]) or None for of in zip(*found, strict=True))
        out = self.transformer(
            tokens,
            guidance=scale if self.transformer.config["guidance_embeds"] else None,
            controlnet_block_samples=joint,
            controlnet_single_block_samples=single,
            controlnet_blocks_repeat=self.on_pixels,
            **given,
            **ip_adapters.given(conditioning),
        )[0]
        return flux.unpacked(out, x.shape)


class ControlledSD3(ControlledTransformer):
    """Stable Diffusion 3 with ControlNets on latents, some with a mask; those without places use the transformer's."""

    classes = ("SD3Transformer2DModel", "SD3ControlNetModel", "SD3MultiControlNetModel")

    def __init__(self, transformer: Any, controlnet: Any) -> None:
        super().__init__(transformer, controlnet)
        for net in self.others:
            if net.pos_embed is None:
                net.pos_embed = net._get_pos_embed_from_transformer(transformer).to(net.device, net.dtype)

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity with the features of the ControlNets added behind blocks."""
        given = sd3.arguments(x, t, conditioning)
        found = []
        for net, seen, strength in self.seen(conditioning):
            blind = net.config["force_zeros_for_pooled_projection"] or "mask" in conditioning
            own: dict[str, Any] = {"pooled_projections": torch.zeros_like(conditioning["pooled"])} if blind else {}
            if net.config["joint_attention_dim"] is None:
                own["encoder_hidden_states"] = None
            start = x if net.config["use_pos_embed"] else net.pos_embed(x)
            found.append(net(start, seen, strength, **{**given, **own})[0])
        given |= ip_adapters.given_tokens(conditioning)
        return self.transformer(x, block_controlnet_hidden_states=total(found), **given)[0]

    def seen(self, conditioning: Conditioning) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
        """The same; with a mask all see the picture without what is inside, and where that is not."""
        if "mask" not in conditioning:
            yield from super().seen(conditioning)
            return
        for net, strength in zip(self.others, strengths(conditioning), strict=True):
            yield net, torch.cat([conditioning["image"], 1 - conditioning["mask"]], dim=1), strength


class ControlledQwenImage(ControlledTransformer):
    """Qwen-Image with a ControlNet on latents, some with a mask, always under the text of the prompt."""

    classes = ("QwenImageTransformer2DModel", "QwenImageControlNetModel")

    @property
    def control_channels(self) -> tuple[int, ...]:
        """Channels of the latents that it sees."""
        return (self.transformer.config["in_channels"] // 4,)

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity with the features of the ControlNet added behind blocks."""
        if "mask" in conditioning:
            seen = torch.cat([conditioning["image"], 1 - conditioning["mask"]], dim=1)
        else:
            seen = conditioning["control"]
        own, all_of = (
            qwen_image.arguments(x, t, conditioning[f"{start}text"], conditioning[f"{start}text_mask"])
            for start in ("control_", "")
        )
        tokens = flux.packed(x)
        features = self.controlnet(tokens, flux.packed(seen), strengths(conditioning)[0], **own)
        out = self.transformer(tokens, controlnet_block_samples=features, **all_of)[0]
        return flux.unpacked(out, x.shape)


class ControlledZImage(ControlledTransformer):
    """Z-Image with a ControlNet on latents, which uses the embeddings and refiners of the transformer."""

    classes = ("ZImageTransformer2DModel", "ZImageControlNetModel")

    def __init__(self, transformer: Any, controlnet: Any) -> None:
        super().__init__(transformer, type(controlnet).from_transformer(controlnet, transformer))
        self.controlnet.gradient_checkpointing = False  # its class asks for it and leaves it out

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity with the features of the ControlNet added behind blocks."""
        given, (strength,) = z_image.arguments(x, t, conditioning), strengths(conditioning)
        features = self.controlnet(*given, self._films(conditioning), strength)
        return z_image.velocity(self.transformer(*given, controlnet_block_samples=features, return_dict=False)[0])

    def _films(self, conditioning: Conditioning) -> torch.Tensor:
        """What the ControlNet sees, ``[B, channels, 1, H, W]``; zeros for a mask and a picture that are not there."""
        seen = conditioning["control"]
        missing = self.controlnet.config["control_in_dim"] - seen.shape[1]
        return torch.nn.functional.pad(seen, (0, 0, 0, 0, 0, missing))[:, :, None]


class CompletedZImage(ControlledZImage):
    """The same with a ControlNet that also sees where a picture is to stay, and that without the rest."""

    def _films(self, conditioning: Conditioning) -> torch.Tensor:
        seen = [conditioning["control"], 1 - conditioning["mask"], conditioning["image"]]
        return torch.cat(seen, dim=1)[:, :, None]


class ControlledSana(ControlledTransformer):
    """Sana with a ControlNet on latents."""

    classes = ("SanaTransformer2DModel", "SanaControlNetModel")

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity with the features of the ControlNet added behind blocks."""
        given, (strength,) = sana.arguments(self.config, x, t, conditioning), strengths(conditioning)
        features = self.controlnet(x, controlnet_cond=conditioning["control"], conditioning_scale=strength, **given)[0]
        return self.transformer(x, controlnet_block_samples=tuple(features), **given)[0]


class ControlledHunyuanDiT(ControlledTransformer):
    """Hunyuan-DiT with ControlNets on latents."""

    classes = ("HunyuanDiT2DModel", "HunyuanDiT2DControlNetModel", "HunyuanDiT2DMultiControlNetModel")

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The prediction with the features of the ControlNets added to skips."""
        given = hunyuan_dit.arguments(self.transformer, x, t, conditioning)
        found = [
            net(x, controlnet_cond=seen, conditioning_scale=strength, **given)[0]
            for net, seen, strength in self.seen(conditioning)
        ]
        return self.transformer(x, controlnet_block_samples=total(found), **given)[0]


def _controlled(family: Family, kind: type[ControlledTransformer], **more: Any) -> Family:
    """A family with ControlNets of a kind."""
    options = {
        "call": call,
        **in_front("transformer", family),
        "conditioning": (*family.conditioning, "control", "control_strength"),
        "seen": lambda network: Seen(control="latents"),
        "embeddings": lambda network: family.embeddings(network.transformer),
        "refusal": lambda config, pipeline: None,
        "requires": {**family.requires, "controlnet": kind.classes[1:]},
        "beside": ("controlnet",),
        "join": kind,
    }
    return replace(family, **{**options, **more})


def _masked(key: str) -> Any:
    """Names of what ControlNets see, which get a mask where a key of their configuration asks for more channels."""
    return lambda config: ("mask", "image") if config.get(f"controlnet_{key}") else ("control",)


def _flux_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The scale of guidance, and which kind of picture the ControlNets see, of networks that are told."""
    guided = config.get("guidance_embeds") or config.get("controlnet_guidance_embeds")
    told = config.get("controlnet_num_mode") is not None
    return (*((GUIDANCE_EMBEDDING,) if guided else ()), *((MODE,) if told else ()))


def _flux_inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The scale of guidance as a tensor ``[1]``."""
    return {GUIDANCE_EMBEDDING: torch.tensor([scale])} if GUIDANCE_EMBEDDING in model._names else {}


def _sd3_seen(network: Any) -> Seen:
    """Latents, without their shift where the ControlNet gets no text as a whole."""
    config = network.others[0].config
    if config["extra_conditioning_channels"]:
        return Seen(hidden=0.0)
    return Seen(control="unshifted" if config["force_zeros_for_pooled_projection"] else "latents")


CONTROLLED_FLUX = _controlled(
    flux.FLUX,
    ControlledFlux,
    suits=lambda config: True,
    further=_flux_names,
    inputs=_flux_inputs,
    seen=lambda network: Seen(control="pixels" if network.on_pixels else "latents"),
    guidance_scale=7.0,
)
CONTROLLED_SD3 = _controlled(
    sd3.SD3,
    ControlledSD3,
    conditioning=(*sd3.SD3.conditioning, "control_strength"),
    further=_masked("extra_conditioning_channels"),
    seen=_sd3_seen,
)
CONTROLLED_QWEN_IMAGE = _controlled(
    qwen_image.QWEN_IMAGE,
    ControlledQwenImage,
    conditioning=(*qwen_image.QWEN_IMAGE.conditioning, "control_strength"),
    kept={"control_text": "text", "control_text_mask": "text_mask"},
    further=_masked("extra_condition_channels"),
    seen=lambda network: Seen(control="latents", hidden=0.0),
)
COMPLETED_Z_IMAGE = _controlled(
    z_image.Z_IMAGE,
    CompletedZImage,
    pipelines=("Inpaint",),
    conditioning=(*z_image.Z_IMAGE.conditioning, "control", "control_strength", "mask", "image"),
)
CONTROLLED_Z_IMAGE = _controlled(z_image.Z_IMAGE, ControlledZImage)
CONTROLLED_SANA = _controlled(sana.SANA, ControlledSana)
CONTROLLED_HUNYUAN_DIT = _controlled(hunyuan_dit.HUNYUAN_DIT, ControlledHunyuanDiT)
