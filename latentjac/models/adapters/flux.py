"""Transformers that take a picture as packed tokens beside those of text: Flux."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models import t5, text_files
from latentjac.models.adapters import ip_adapters
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of, refusing
from latentjac.models.adapters.joined import Joined, in_front
from latentjac.models.adapters.joined import call as call_joined
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.seen import Seen
from latentjac.models.text import GUIDANCE_EMBEDDING

_PICTURES = ("control", "image", "mask")  # behind the channels of a sample
_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"pooled"`` and, of distilled ones, the scale of guidance.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures. Channels
    of latents of a picture, ``"control"``, or of one with what a mask leaves of it, ``"image"`` and ``"mask"``,
    ``[B, pixels of a latent, H, W]``, come behind those of the sample. With IP-Adapters it gets an
    ``"image_embedding"`` for each, ``[B, pictures, channels]``.
    """
    guidance = conditioning.get(GUIDANCE_EMBEDDING)
    seen = torch.cat([x, *(conditioning[name] for name in _PICTURES if name in conditioning)], dim=1)
    told = arguments(x, t, conditioning) | ip_adapters.given(conditioning)
    return unpacked(network(packed(seen), guidance=guidance, **told)[0], x.shape)


def arguments(x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
    """What such a network and its ControlNets are called with beside packed samples and a scale of guidance."""
    return {
        "timestep": times(x, t).to(x.dtype) / 1000,
        "encoder_hidden_states": conditioning["text"],
        "pooled_projections": conditioning["pooled"],
        "txt_ids": x.new_zeros(conditioning["text"].shape[1], 3),
        "img_ids": places(x),
        "return_dict": False,
    }


def packed(x: torch.Tensor) -> torch.Tensor:
    """Samples ``[B, C, H, W]`` as tokens ``[B, H W / 4, 4 C]``."""
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, 4 * channels)


def unpacked(tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The inverse of :func:`packed`."""
    batch, channels, height, width = shape
    blocks = tokens.reshape(batch, height // 2, width // 2, channels, 2, 2)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(shape)


def places(x: torch.Tensor) -> torch.Tensor:
    """Row and column of each token behind a zero, ``[H W / 4, 3]``."""
    rows, columns = (torch.arange(side // 2, device=x.device, dtype=x.dtype) for side in x.shape[2:])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    return torch.nn.functional.pad(grid, (1, 0))


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return _channels(network.config)[1] // 4, _TRAINED_SIDE, _TRAINED_SIDE


def _channels(config: Mapping[str, Any]) -> tuple[int, int]:
    """Those of tokens that the network takes and that it predicts; files can leave them to the class."""
    taken = config.get("in_channels", 64)
    return taken, config.get("out_channels") or taken


def tokens(network: Any, shape: tuple[int, ...]) -> int:
    """Patches of 2x2 latents."""
    return shape[1] // 2 * (shape[2] // 2)


def layers(network: Any) -> Mapping[str, str]:
    """The picture's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, "transformer_blocks", "single_transformer_blocks")


def further(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The scale of guidance, of networks that were distilled with it."""
    return (GUIDANCE_EMBEDDING,) if config.get("guidance_embeds") else ()


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The same as a tensor ``[1]``."""
    return {GUIDANCE_EMBEDDING: torch.tensor([scale])} if further(model.network.config) else {}


def plain(config: Mapping[str, Any]) -> bool:
    """Whether a network of this configuration gets the channels of samples alone."""
    taken, predicted = _channels(config)
    return taken == predicted


def doubled(config: Mapping[str, Any]) -> bool:
    """Whether it gets those of latents of a picture as well."""
    taken, predicted = _channels(config)
    return taken == 2 * predicted


def masked(config: Mapping[str, Any]) -> bool:
    """Whether it gets those of a mask, too."""
    taken, predicted = _channels(config)
    return taken > 2 * predicted


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """CLIP's pooled embedding and the tokens of T5."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, pooled, _ = pipeline.encode_prompt(prompts, None)
        return {"text": text, "pooled": pooled}

    return PipelineText("FluxPipeline", parts, encode)


FLUX = Family(
    "FluxTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    suits=lambda config: bool(config.get("guidance_embeds")) and plain(config),
    conditioning=("text", "pooled"),
    further=further,
    inputs=inputs,
    embeddings=ip_adapters.from_black,
    refusal=refusing("Kontext", "VisualCloze", "Fill", "Control"),
    placement="even",
    guidance_scale=3.5,
    requires={
        "text_encoder": ("CLIPTextModel",),
        "tokenizer": text_files.TOKENIZERS,
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer_2": t5.TOKENIZERS,
    },
    allows=("image_encoder",),
    make_text=make_text,
)
# The distilled one that samples in a few steps gets no scale, and its pipeline is not guided by default.
FLUX_SCHNELL = replace(
    FLUX, suits=lambda config: not config.get("guidance_embeds") and plain(config), guidance_scale=1.0
)
FLUX_CONTROL = replace(
    FLUX,
    suits=doubled,
    pipelines=("FluxControl",),
    conditioning=("text", "pooled", "control"),
    seen=lambda network: Seen(control="latents"),
    refusal=lambda config, pipeline: None,
    tokens=tokens,
)


class ReferencedFlux(Joined):
    """Flux that sees a picture as further tokens behind those of the sample (Kontext)."""

    own, others = "transformer", ()

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReferencedFlux:
        """A new one of this configuration, with any weights."""
        from diffusers import FluxTransformer2DModel

        return cls(FluxTransformer2DModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity; places of an ``"image"`` of the size of the sample, latents, have 1 in front."""
        given, own = arguments(x, t, conditioning), packed(x)
        behind = torch.nn.functional.pad(given["img_ids"][:, 1:], (1, 0), value=1.0)
        given["img_ids"] = torch.cat([given["img_ids"], behind])
        seen = torch.cat([own, packed(conditioning["image"])], dim=1)
        given |= ip_adapters.given(conditioning)
        out = self.transformer(seen, guidance=conditioning.get(GUIDANCE_EMBEDDING), **given)[0]
        return unpacked(out[:, : own.shape[1]], x.shape)


FLUX_FILL = replace(
    FLUX,
    suits=masked,
    pipelines=("FluxFill",),
    conditioning=("text", "pooled", "image", "mask"),
    seen=lambda network: Seen(folded=True),
    refusal=lambda config, pipeline: None,
    tokens=tokens,
    guidance_scale=30.0,
)
_IN_FRONT = in_front("transformer", FLUX)
FLUX_KONTEXT = replace(
    FLUX,
    call=call_joined,
    embeddings=lambda network: ip_adapters.from_black(network.transformer),
    layers=_IN_FRONT["layers"],
    joined={f"transformer.{blocks}": "first" for blocks in ("transformer_blocks", "single_transformer_blocks")},
    suits=plain,
    pipelines=("FluxKontext",),
    conditioning=("text", "pooled", "image"),
    seen=lambda network: Seen(image="latents"),
    refusal=lambda config, pipeline: None,
    join=ReferencedFlux,
)
