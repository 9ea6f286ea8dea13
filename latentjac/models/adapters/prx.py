"""Transformers of pictures whose tokens attend to themselves and to a text: PRX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import precise
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 512  # of pictures; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them."""
    mask = conditioning["text_mask"]
    return network(
        hidden_states=x,
        timestep=precise(x, t) / 1000,
        encoder_hidden_states=conditioning["text"],
        attention_mask=mask.bool() if mask.shape[1] else None,
        return_dict=False,
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 512 x 512: of 8 pixels where patches have two of them, else of 32."""
    side = _TRAINED_SIDE // (8 if network.config["patch_size"] > 1 else 32)
    return network.config["in_channels"], side, side


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``; see the layers of DiT."""
    return middle_of(network, "blocks")


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: its noise has another deviation."""
    if pipeline == "PRXPixelPipeline":
        return f"it must predict a velocity under noise of deviation 1, got x0 under noise of another in a {pipeline}"
    return None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the encoder of T5Gemma, where the text is: what is behind it is masked by the pipeline."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask, *_ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        return side_by_side([row[shown] for row, shown in zip(text, mask.bool(), strict=True)])

    return PipelineText("PRXPipeline", parts, encode)


PRX = Family(
    "PRXTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    refusal=refusal,
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
