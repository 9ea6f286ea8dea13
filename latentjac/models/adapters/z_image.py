"""Transformers of one stream, the picture before the text of Qwen 3: Z-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import precise
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.flux import tokens
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    The network gets the signal as its time, a list of films of one frame and one of texts, and predicts x0 - eps.
    """
    return velocity(network(*arguments(x, t, conditioning), return_dict=False)[0])


def arguments(
    x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning
) -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]]:
    """Films, times and texts that such a network and its ControlNet are called with."""
    text, mask = conditioning["text"], conditioning["text_mask"]
    # Lengths that differ are values, which no trace has; those of one prompt are its shape.
    lengths = mask.sum(dim=1).long().tolist() if mask.shape[1] else [text.shape[1]] * len(x)
    time = 1 - precise(x, t) / 1000
    texts = [row[:length] for row, length in zip(text, lengths, strict=True)]
    return list(x[:, :, None].unbind(dim=0)), time, texts


def velocity(films: list[torch.Tensor]) -> torch.Tensor:
    """That of what the network predicts of films, ``[B, C, H, W]``."""
    return -torch.stack(list(films))[:, :, 0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]`` of the picture."""
    return middle_of(network, "layers")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of the language model one layer before its end, of each prompt as many as it has tokens."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return side_by_side(pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)[0])

    return PipelineText("ZImagePipeline", parts, encode)


Z_IMAGE = Family(
    "ZImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    suits=lambda config: config.get("siglip_feat_dim") is None,  # of networks that get pictures as well
    conditioning=("text", "text_mask"),
    joined={"layers": "first"},
    tokens=tokens,
    placement="even",
    guidance_scale=6.0,  # the pipeline adds 5 times the difference to the prediction under the prompt
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
