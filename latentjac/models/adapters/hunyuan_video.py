"""Transformers of videos beside a text of Llama and the whole of it of CLIP: HunyuanVideo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.adapters.flux import further, inputs
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side
from latentjac.models.text import GUIDANCE_EMBEDDING

_TRAINED = (33, 90, 160)  # latents of 129 frames of 720 x 1280 pixels; the configuration names none
_TAKEN = ("HunyuanVideoPipeline",)
_BLOCKS = ("transformer_blocks", "single_transformer_blocks")


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, F, H, W]`` under ``"text"`` with its mask, see :func:`side_by_side`, and ``"pooled"``.

    Distilled networks get the scale of guidance, in thousandths as their pipeline gives it.
    """
    text, mask = conditioning["text"], conditioning["text_mask"]
    guidance = conditioning.get(GUIDANCE_EMBEDDING)
    return network(
        hidden_states=x,
        timestep=times(x, t).to(x.dtype),
        encoder_hidden_states=text,
        encoder_attention_mask=mask if mask.shape[1] else torch.ones_like(text[..., 0]),
        pooled_projections=conditioning["pooled"],
        guidance=None if guidance is None else guidance * 1000.0,
        return_dict=False,
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size that diffusers makes by default."""
    return network.config["in_channels"], *_TRAINED


def layers(network: Any) -> Mapping[str, str]:
    """The video's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, *_BLOCKS)


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along frames, height and width."""
    config, (_, frames, *sides) = network.config, shape
    return frames // config["patch_size_t"], *(side // config["patch_size"] for side in sides)


def tokens(network: Any, shape: tuple[int, ...]) -> int:
    """All of these."""
    frames, height, width = grid(network, shape)
    return frames * height * width


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample."""
    if pipeline not in _TAKEN:
        return f"it must be that of a {_TAKEN[0]}, got one of a {pipeline}, which gets a picture as well"
    kind = config.get("image_condition_type")
    return None if kind is None else f"image_condition_type must be None, got {kind!r}, so it gets a picture as well"


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of Llama behind the words that ask for a description, and CLIP's pooled embedding."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, pooled, mask = pipeline.encode_prompt(prompts)
        rows = [row[shown] for row, shown in zip(text, mask.bool(), strict=True)]
        return {**side_by_side(rows), "pooled": pooled}

    return PipelineText("HunyuanVideoPipeline", parts, encode)


HUNYUAN_VIDEO = Family(
    "HunyuanVideoTransformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="videos",
    sized=True,
    suits=lambda config: bool(config.get("guidance_embeds", True)),
    conditioning=("text", "text_mask", "pooled"),
    further=further,
    inputs=inputs,
    tokens=tokens,
    refusal=refusal,
    placement="even",
    guidance_scale=6.0,
    grid=BlockOutput(_BLOCKS, grid),
    requires={
        "text_encoder": ("LlamaModel",),
        "tokenizer": (),
        "text_encoder_2": ("CLIPTextModel",),
        "tokenizer_2": (),
        "vae": ("AutoencoderKLHunyuanVideo",),
    },
    make_text=make_text,
)
# One that was not distilled gets no scale, and its pipeline is not guided by default.
HUNYUAN_VIDEO_PLAIN = replace(
    HUNYUAN_VIDEO, suits=lambda config: not config.get("guidance_embeds", True), guidance_scale=1.0
)
