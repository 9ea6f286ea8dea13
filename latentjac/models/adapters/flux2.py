"""Transformers on folded latents under a text of a language model: Flux 2, and its small ones (Klein)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, refusing
from latentjac.models.adapters.flux import further, inputs, layers
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.text import GUIDANCE_EMBEDDING

_TRAINED_SIDE = 64  # of folded latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and, of distilled ones, the scale of guidance.

    A token is a folded latent of 2x2.
    """
    text = conditioning["text"]
    rows, columns, words = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (*x.shape[2:], text.shape[1]))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    out = network(
        hidden_states=x.flatten(2).transpose(1, 2),
        timestep=times(x, t).to(x.dtype) / 1000,
        guidance=conditioning.get(GUIDANCE_EMBEDDING),
        encoder_hidden_states=text,
        txt_ids=torch.nn.functional.pad(words[:, None], (3, 0)),
        img_ids=torch.nn.functional.pad(grid, (1, 1)),
        return_dict=False,
    )[0]
    return out.transpose(1, 2).reshape(x.shape)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Folded latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """States of three layers of the language model, side by side."""
    large = type(parts["text_encoder"]).__name__.startswith("Mistral")

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts)[0]}

    return PipelineText("Flux2Pipeline" if large else "Flux2KleinPipeline", parts, encode)


FLUX2 = Family(
    "Flux2Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    suits=lambda config: bool(config.get("guidance_embeds")),
    conditioning=("text",),
    further=further,
    inputs=inputs,
    refusal=refusing("Inpaint", "KV", what="pictures"),
    joined={"single_transformer_blocks": "last"},
    placement="fitted",
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
FLUX2_KLEIN = replace(FLUX2, suits=lambda config: not config.get("guidance_embeds"))
