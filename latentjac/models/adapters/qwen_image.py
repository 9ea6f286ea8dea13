"""Transformers that take a picture as packed tokens, under a text of Qwen 2.5 VL: Qwen-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family, gets
from latentjac.models.adapters.flux import packed, unpacked
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED_SIDE = 128  # of latents; the configuration names none
_MOST_TOKENS = 512  # of a prompt, as the pipeline has it by default


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]``; attend to ``"text"`` where ``"text_mask"``, ``[B, tokens]``, is 1.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    text, mask = conditioning["text"], conditioning["text_mask"]
    return unpacked(network(packed(x), **arguments(x, t, text, mask))[0], x.shape)


def arguments(
    x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, *, pictures: int = 1
) -> dict[str, Any]:
    """What such a network and its ControlNets are called with beside packed samples.

    Args:
        x: Samples.
        t: Timesteps.
        text: Tokens of it.
        mask: Which of them count.
        pictures: Of their size, one behind the other; the first is the sample.
    """
    shape = (1, *(side // 2 for side in x.shape[2:]))  # one frame
    return {
        "timestep": times(x, t).to(x.dtype) / 1000,
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": mask,
        "img_shapes": [[shape] * pictures] * len(x),
        "return_dict": False,
    }


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024; the network takes 2x2 of them as the channels of a token."""
    return network.config["in_channels"] // 4, _TRAINED_SIDE, _TRAINED_SIDE


def rescaled(out: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """What guidance gives, each token of it as long as under the prompt alone."""
    tokens, own = packed(out), packed(towards)
    return unpacked(tokens * (own.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)), out.shape)


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets pictures beside the sample, or several of them."""
    if any(word in pipeline for word in ("Edit", "Layered")) or config.get("use_additional_t_cond"):
        return gets(pipeline, "pictures")
    if config.get("guidance_embeds"):
        return "guidance_embeds must be False, got True"
    return None


def masked(text: torch.Tensor, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Tokens of texts, and which of them count: all where a pipeline leaves the mask out."""
    return {"text": text, "text_mask": text.new_ones(text.shape[:2]) if mask is None else mask}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model behind the instruction that the pipeline puts before each prompt."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return masked(*pipeline.encode_prompt(prompts, max_sequence_length=_MOST_TOKENS))

    return PipelineText("QwenImagePipeline", parts, encode)


QWEN_IMAGE = Family(
    "QwenImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    refusal=refusal,
    placement="even",
    rescaled=rescaled,
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
