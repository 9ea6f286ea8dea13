"""Transformers that take a picture as packed tokens, under a text of Qwen 3: Ovis-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.flux import layers, packed, places, sample_shape, unpacked
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"``, ``[B, tokens, channels]``, zeros behind its end.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    return predicted(network, x, t, conditioning, places(x))


def predicted(
    network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, where: torch.Tensor
) -> torch.Tensor:
    """The same with the tokens of the picture at places ``[tokens, 3]``."""
    text = conditioning["text"]
    out = network(
        hidden_states=packed(x),
        timestep=times(x, t).to(x.dtype) / 1000,
        encoder_hidden_states=text,
        txt_ids=word_places(x, text.shape[1]),
        img_ids=where,
        return_dict=False,
    )[0]
    return unpacked(out, x.shape)


def word_places(x: torch.Tensor, count: int) -> torch.Tensor:
    """Of each word ``[count, 3]``: on the diagonal of the picture, behind a zero."""
    numbers = torch.arange(count, device=x.device, dtype=x.dtype)
    return torch.nn.functional.pad(numbers[:, None].expand(-1, 2), (1, 0))


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model behind the instruction that the pipeline puts before each prompt."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}

    return PipelineText("OvisImagePipeline", parts, encode)


OVIS_IMAGE = Family(
    "OvisImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text",),
    placement="even",
    guidance_scale=5.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
