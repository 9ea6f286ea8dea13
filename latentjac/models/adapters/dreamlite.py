"""U-Nets of flows that attend to a text of Qwen 3 VL, with a place for another picture beside the sample: DreamLite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models import autoencoders
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import layers
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels
_TASK = "[Generate]: "  # what the pipeline puts before a prompt without a picture


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    The network sees zeros of the same size to the right of the sample, where there is no picture to be changed, and is
    told the width and the height in pixels, ``"time_ids"``.
    """
    mask = conditioning["text_mask"]
    out = network(
        torch.cat([x, torch.zeros_like(x)], dim=3),
        times(x, t).to(x.dtype),
        conditioning["text"],
        encoder_attention_mask=mask if mask.shape[1] else None,
        added_cond_kwargs={"time_ids": conditioning["time_ids"].expand(len(x), -1)},
        return_dict=False,
    )[0]
    return out[..., : x.shape[3]]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """Width and height of pictures."""
    height, width = autoencoders.picture_size(model)
    return {"time_ids": torch.tensor([[float(width), float(height)]])}


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it."""
    for key, known in (("addition_embed_type", (None, "time")), ("class_embed_type", (None,))):
        if config.get(key) not in known:
            return f"{key} must be {' or '.join(map(repr, known))}, got {config[key]!r}"
    return None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model behind the instruction before each prompt."""

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        coder = pipeline.text_encoder
        text, mask = pipeline.encode_prompt("generate", prompts, coder.device, coder.dtype)
        return side_by_side([row[shown] for row, shown in zip(text, mask.bool(), strict=True)])

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return encode_away(pipeline, [_TASK + prompt for prompt in prompts])

    return PipelineText("DreamLitePipeline", parts, encode, encode_away)


DREAMLITE = Family(
    "DreamLiteUNetModel",
    call,
    sample_shape,
    layers,
    sized=True,
    conditioning=("text", "text_mask", "time_ids"),
    inputs=inputs,
    refusal=refusal,
    shifting_tokens=lambda network, shape: shape[1] * shape[2] // 4,
    placement="even",
    guidance_scale=3.5,
    unguided=lambda pipeline, settings: "Mobile" in pipeline,
    requires={"text_encoder": (), "tokenizer": ()},
    ignores=("processor",),
    make_text=make_text,
)
