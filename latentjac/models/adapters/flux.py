"""Transformers that take a picture as packed tokens beside those of text: Flux."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models import t5, text_files
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of, refusing
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.text import GUIDANCE_EMBEDDING

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"pooled"`` and, of distilled ones, the scale of guidance.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    out = network(
        hidden_states=packed(x),
        timestep=times(x, t).to(x.dtype) / 1000,
        guidance=conditioning.get(GUIDANCE_EMBEDDING),
        encoder_hidden_states=conditioning["text"],
        pooled_projections=conditioning["pooled"],
        txt_ids=x.new_zeros(conditioning["text"].shape[1], 3),
        img_ids=places(x),
        return_dict=False,
    )[0]
    return unpacked(out, x.shape)


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
    return network.config["in_channels"] // 4, _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """The picture's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, "transformer_blocks", "single_transformer_blocks")


def further(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The scale of guidance, of networks that were distilled with it."""
    return (GUIDANCE_EMBEDDING,) if config.get("guidance_embeds") else ()


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The same as a tensor ``[1]``."""
    return {GUIDANCE_EMBEDDING: torch.tensor([scale])} if further(model.network.config) else {}


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
    suits=lambda config: bool(config.get("guidance_embeds")),
    conditioning=("text", "pooled"),
    further=further,
    inputs=inputs,
    refusal=refusing("Kontext", "VisualCloze", "Fill", "Control"),
    placement="even",
    guidance_scale=3.5,
    requires={
        "text_encoder": ("CLIPTextModel",),
        "tokenizer": text_files.TOKENIZERS,
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer_2": t5.TOKENIZERS,
    },
    make_text=make_text,
)
# The distilled one that samples in a few steps gets no scale, and its pipeline is not guided by default.
FLUX_SCHNELL = replace(FLUX, suits=lambda config: not config.get("guidance_embeds"), guidance_scale=1.0)
