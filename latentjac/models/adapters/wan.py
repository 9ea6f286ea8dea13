"""Transformers of videos that attend to a prompt: Wan 2.1, and the Wan 2.2 of one network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED = (21, 60, 104)  # latents of 81 frames of 480 x 832 pixels; the configuration names none
_MOST_TOKENS = 512  # of a text, as in diffusers
_TAKEN = ("WanPipeline", "WanVideoToVideoPipeline")


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, F, H, W]`` under ``"text"``, ``[B, tokens, channels]``, zeros behind its end."""
    return network(
        hidden_states=x, timestep=times(x, t), encoder_hidden_states=conditioning["text"], return_dict=False
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size that diffusers makes by default."""
    return network.config["in_channels"], *_TRAINED


def layers(network: Any) -> Mapping[str, str]:
    """The middle block; see the layers of DiT."""
    return middle_of(network, "blocks")


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along frames, height and width."""
    return tuple(size // patch for size, patch in zip(shape[1:], network.config["patch_size"], strict=True))


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample."""
    if pipeline not in _TAKEN:
        return f"it must be that of a {' or '.join(_TAKEN)}, got one of a {pipeline}, which gets a picture as well"
    if config.get("image_dim") is not None or config.get("in_channels", 16) != config.get("out_channels", 16):
        channels = f"{config.get('in_channels')} in_channels and image_dim {config.get('image_dim')}"
        return f"it must get nothing but samples and a text, got {channels}"
    return None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of UMT5."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _ = pipeline.encode_prompt(prompts, None, False, max_sequence_length=_MOST_TOKENS)
        return {"text": text}

    return PipelineText("WanPipeline", parts, encode)


WAN = Family(
    "WanTransformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="videos",
    sized=True,
    conditioning=("text",),
    refusal=refusal,
    guidance_scale=5.0,
    grid=BlockOutput("blocks", grid),
    requires={"text_encoder": ("UMT5EncoderModel",), "vae": ("AutoencoderKLWan",)},
    allows=("tokenizer",),
    make_text=make_text,
)
