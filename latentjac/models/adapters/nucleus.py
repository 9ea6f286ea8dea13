"""Transformers of pictures with mixtures of experts that attend to a text of Qwen 3 VL: Nucleus-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.experts import MixedTransformer
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.flux import packed, tokens, unpacked
from latentjac.models.adapters.qwen_image import masked, rescaled, sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


class MixedNucleus(MixedTransformer):
    """A transformer of Nucleus-Image on packed latents; see :class:`MixedTransformer`."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What it predicts for samples ``[B, C, H, W]``."""
        out = self.transformer(
            hidden_states=packed(x),
            img_shapes=[(1, x.shape[2] // 2, x.shape[3] // 2)] * len(x),
            encoder_hidden_states=text,
            encoder_hidden_states_mask=mask.bool(),
            timestep=time,
            return_dict=False,
        )[0]
        return unpacked(out, x.shape)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]``; attend to ``"text"`` where ``"text_mask"``, ``[B, tokens]``, is 1.

    The network predicts x0 - eps for tokens of 2x2 latents; samples stay pictures.
    """
    return -network(x, times(x, t).to(x.dtype) / 1000, conditioning["text"], conditioning["text_mask"])


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``; see the layers of DiT."""
    return middle_of(network, "transformer.transformer_blocks")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of the language model eight layers before its end, with the instruction before each prompt."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return masked(*pipeline.encode_prompt(prompts))

    return PipelineText("NucleusMoEImagePipeline", parts, encode)


NUCLEUS = Family(
    "NucleusMoEImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    tokens=tokens,
    placement="even",
    rescaled=rescaled,
    join=MixedNucleus,
    guidance_scale=4.0,
    requires={"text_encoder": (), "processor": ()},
    make_text=make_text,
)
