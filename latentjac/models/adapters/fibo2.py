"""Transformers of one stream, what they read of a text before the picture: Fibo 2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from latentjac.models.adapters.dit import precise
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 64  # of folded latents, for pictures of 1024 pixels; the configuration names none
_FOLDED = 2  # latents along the side of a folded one


def call(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    A token of text has the channels of several bundles of layers, one behind the other. The network sees latents that
    are not folded.
    """
    text, mask = conditioning["text"], conditioning["text_mask"]
    bundles = 1 + len(network.config["injection_layer_ids"])
    out = network(
        hidden_states=pixel_shuffle(x, _FOLDED),
        timestep=precise(x, t) / 1000,
        encoder_hidden_states=text.unflatten(2, (bundles, -1)).transpose(1, 2),
        encoder_attention_mask=mask.bool() if mask.shape[1] else None,
        return_dict=False,
    )[0]
    return pixel_unshuffle(out, _FOLDED)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Folded latents of a picture of 1024 x 1024."""
    return network.config["in_channels"] * _FOLDED**2, _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]`` of the picture."""
    return middle_of(network, "layers")


def tokens(network: Any, shape: tuple[int, ...]) -> int:
    """Patches of latents that are not folded."""
    return shape[1] * shape[2] * _FOLDED**2 // network.config["patch_size"] ** 2


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """Bundles of layers of the language model; no text to lead away from is an empty caption, as in the pipeline."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return _bundles(pipeline, [_caption(pipeline, prompt) for prompt in prompts])

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        from diffusers.pipelines.bria_fibo2.pipeline_bria_fibo2 import DEFAULT_NEGATIVE_PROMPT

        return _bundles(pipeline, [prompt or DEFAULT_NEGATIVE_PROMPT for prompt in prompts])

    return PipelineText("BriaFibo2Pipeline", parts, encode, encode_away)


def _bundles(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
    rows = []
    for prompt in prompts:
        text, mask = pipeline.encode_prompt([prompt])
        text = text[0].transpose(0, 1).flatten(1)
        rows.append(text if mask is None else text[mask[0]])
    return side_by_side(rows)


def _caption(pipeline: Any, prompt: str) -> str:
    """A prompt, or a caption in JSON as its pipeline writes it.

    Raises:
        ValueError: If there is text to be drawn in a caption: the encoder would see pictures of it.
    """
    caption, _ = pipeline._parse_prompt(prompt)
    if isinstance(caption, str):
        return caption
    if caption and caption.get("text_render"):
        raise ValueError("conditioning: prompt must have no text_render, of which the encoder sees pictures, got some")
    return json.dumps(caption or {}, separators=(",", ":"), ensure_ascii=False)


FIBO2 = Family(
    "BriaFibo2Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    joined={"layers": "last"},
    tokens=tokens,
    placement="even",
    guidance_scale=5.0,
    requires={"text_encoder": (), "processor": ()},
    make_text=make_text,
)
