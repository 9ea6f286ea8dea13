"""Transformers of one stream, the text before the picture, told all layers of a language model: Krea 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import layers, times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.flux import packed, places, sample_shape, tokens, unpacked
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_PATCH = 2  # latents along the side of a token
_DISTILLED = 1.15  # mu of the shift of distilled ones, whatever the size is


def call(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    A token of text has the channels of several layers, one behind the other; all of them are at place 0. The network
    sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    text, mask = conditioning["text"], conditioning["text_mask"]
    places_of_all = torch.nn.functional.pad(places(x), (0, 0, text.shape[1], 0))
    out = network(
        hidden_states=packed(x),
        encoder_hidden_states=text.unflatten(2, (network.config["num_text_layers"], -1)),
        timestep=times(x, t).to(x.dtype) / 1000,
        position_ids=places_of_all,
        encoder_attention_mask=mask.bool() if mask.shape[1] else None,
        return_dict=False,
    )[0]
    return unpacked(out, x.shape)


def scheduled(scheduler: Any, settings: Mapping[str, Any]) -> Any:
    """The scheduler, with one shift for all sizes for distilled networks."""
    if not settings.get("is_distilled"):
        return scheduler
    return type(scheduler).from_config(scheduler.config, base_shift=_DISTILLED, max_shift=_DISTILLED)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of the layers that the pipeline names, within an instruction; its padding is left out."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask = pipeline.encode_prompt(prompts)
        return side_by_side([row[shown].flatten(1) for row, shown in zip(text, mask.bool(), strict=True)])

    named = {"text_encoder_select_layers": settings.get("text_encoder_select_layers"), "patch_size": _PATCH}
    return PipelineText("Krea2Pipeline", {**parts, **named}, encode)


KREA2 = Family(
    "Krea2Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    joined={"transformer_blocks": "last"},
    tokens=tokens,
    placement="even",
    scheduled=scheduled,
    guidance_scale=5.5,  # the pipeline adds 4.5 times the difference to the prediction under the prompt
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
