"""Transformers on folded latents under a text of a language model: Flux 2, and its small ones (Klein)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, refusing
from latentjac.models.adapters.flux import further, inputs, layers
from latentjac.models.adapters.joined import Joined, in_front
from latentjac.models.adapters.joined import call as call_joined
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.seen import Seen
from latentjac.models.text import GUIDANCE_EMBEDDING

_FIRST_PICTURE = 10.0  # in place of the 0 that places of a sample have
_TRAINED_SIDE = 64  # of folded latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and, of distilled ones, the scale of guidance.

    A token is a folded latent of 2x2.
    """
    given = arguments(x, t, conditioning)
    out = network(packed(x), guidance=conditioning.get(GUIDANCE_EMBEDDING), **given)[0]
    return out.transpose(1, 2).reshape(x.shape)


def packed(x: torch.Tensor) -> torch.Tensor:
    """Samples ``[B, C, H, W]`` as tokens ``[B, H W, C]``."""
    return x.flatten(2).transpose(1, 2)


def arguments(x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
    """What such a network is called with beside packed samples and a scale of guidance."""
    text = conditioning["text"]
    rows, columns, words = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (*x.shape[2:], text.shape[1]))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    return {
        "timestep": times(x, t).to(x.dtype) / 1000,
        "encoder_hidden_states": text,
        "txt_ids": torch.nn.functional.pad(words[:, None], (3, 0)),
        "img_ids": torch.nn.functional.pad(grid, (1, 1)),
        "return_dict": False,
    }


class ReferencedFlux2(Joined):
    """Flux 2 that sees a picture as further tokens behind those of the sample, as others do of its configuration."""

    own, others = "transformer", ()

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReferencedFlux2:
        """A new one of this configuration, with any weights."""
        from diffusers import Flux2Transformer2DModel

        return cls(Flux2Transformer2DModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity; places of an ``"image"`` of the size of the sample, latents, have 10 in front."""
        given, own = arguments(x, t, conditioning), packed(x)
        behind = torch.nn.functional.pad(given["img_ids"][:, 1:], (1, 0), value=_FIRST_PICTURE)
        given["img_ids"] = torch.cat([given["img_ids"], behind])
        seen = torch.cat([own, packed(conditioning["image"])], dim=1)
        out = self.transformer(seen, guidance=conditioning.get(GUIDANCE_EMBEDDING), **given)[0]
        return out[:, : own.shape[1]].transpose(1, 2).reshape(x.shape)


class CachedFlux2(ReferencedFlux2):
    """Flux 2 whose picture is looked at as if it had no noise, and sees nothing but itself (KV).

    Its keys and values are the same at all times, so that pipelines keep those of the first step; here they are made
    anew, in front of those of the sample.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__(transformer)
        from diffusers.models.transformers import transformer_flux2 as own

        for block in transformer.transformer_blocks:
            block.attn.set_processor(own.Flux2KVAttnProcessor())
        for block in transformer.single_transformer_blocks:
            block.attn.set_processor(own.Flux2KVParallelSelfAttnProcessor())

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity; see :class:`ReferencedFlux2`."""
        given, picture = arguments(x, t, conditioning), packed(conditioning["image"])
        before = torch.nn.functional.pad(given["img_ids"][:, 1:], (1, 0), value=_FIRST_PICTURE)
        given["img_ids"] = torch.cat([before, given["img_ids"]])
        seen = torch.cat([picture, packed(x)], dim=1)
        out = self.transformer(seen, kv_cache_mode="extract", num_ref_tokens=picture.shape[1], **given)[0]
        return out.transpose(1, 2).reshape(x.shape)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Folded latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """States of three layers of the language model, side by side."""
    large = type(parts["text_encoder"]).__name__.startswith("Mistral")

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts)[0]}

    return PipelineText("Flux2Pipeline" if large else "Flux2KleinPipeline", parts, encode)


FLUX2 = Family(
    "Flux2Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    suits=lambda config: bool(config.get("guidance_embeds")),
    conditioning=("text",),
    further=further,
    inputs=inputs,
    refusal=refusing("Inpaint", "KV", what="pictures"),
    joined={"single_transformer_blocks": "last"},
    placement="fitted",
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
FLUX2_KLEIN = replace(
    FLUX2,
    suits=lambda config: not config.get("guidance_embeds"),
    unguided=lambda pipeline, settings: bool(settings.get("is_distilled")),
)
FLUX2_KLEIN_INPAINT = replace(
    FLUX2_KLEIN,
    call=call_joined,
    layers=in_front("transformer", FLUX2)["layers"],
    joined={"transformer.transformer_blocks": "first", "transformer.single_transformer_blocks": "last but one"},
    pipelines=("Flux2KleinInpaint",),
    conditioning=("text", "image"),
    seen=lambda network: Seen(image="latents"),
    refusal=lambda config, pipeline: None,
    guidance_scale=8.0,
    join=ReferencedFlux2,
)
FLUX2_KLEIN_KV = replace(
    FLUX2_KLEIN_INPAINT,
    joined={f"transformer.{blocks}": "last" for blocks in ("transformer_blocks", "single_transformer_blocks")},
    pipelines=("Flux2KleinKV",),
    guidance_scale=1.0,
    join=CachedFlux2,
)
