"""Transformers that take a picture as packed tokens: Bria, under a text of T5, and Fibo, of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.flux import layers, packed, places, sample_shape, unpacked
from latentjac.models.adapters.joined import Joined, in_front
from latentjac.models.adapters.joined import call as call_joined
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side
from latentjac.models.seen import Seen

_TRAINED_SIDE = 64  # of latents of Fibo, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"``, ``[B, tokens, channels]``, zeros behind its end.

    The network sees tokens of 2x2 latents; they are packed here and unpacked, so that samples stay pictures.
    """
    text = conditioning["text"]
    out = network(
        hidden_states=packed(x),
        timestep=times(x, t),
        encoder_hidden_states=text,
        txt_ids=x.new_zeros(text.shape[1], 3),
        img_ids=places(x),
        return_dict=False,
    )[0]
    return unpacked(out, x.shape)


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it."""
    return "guidance_embeds must be False, got True" if config.get("guidance_embeds") else None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5; an empty text that guidance leads away from is zeros."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0]}

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        rows = [pipeline.encode_prompt([prompt], negative_prompt=[prompt])[1] for prompt in prompts]
        return {"text": torch.cat(rows)}

    return PipelineText("BriaPipeline", parts, encode, encode_away)


BRIA = Family(
    "BriaTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text",),
    refusal=refusal,
    placement="rounded",
    guidance_scale=5.0,
    requires={"text_encoder": ("T5EncoderModel",), "tokenizer": ()},
    ignores=("image_encoder",),
    make_text=make_text,
)


def call_fibo(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    A text has the channels of the two last layers of the language model, then those of all of its layers: each block
    reads one of them. A token is one latent.
    """
    out = network(hidden_states=fibo_tokens(x), **fibo_arguments(network, x, t, conditioning))[0]
    return out.transpose(1, 2).reshape(x.shape)


def fibo_tokens(x: torch.Tensor) -> torch.Tensor:
    """Samples ``[B, C, H, W]`` as tokens ``[B, H W, C]``."""
    return x.flatten(2).transpose(1, 2)


def fibo_arguments(
    network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, pictures: int = 1
) -> dict[str, Any]:
    """What Fibo is called with beside tokens of a sample and of further pictures of its size, so many in all."""
    text, mask = conditioning["text"], conditioning["text_mask"]
    joint, width = network.config["joint_attention_dim"], network.config["text_encoder_dim"]
    states = list(text[..., joint:].split(width, dim=-1))
    blocks = len(network.transformer_blocks) + len(network.single_transformer_blocks)
    states = [*states, *states[-1:] * (blocks - len(states))][-blocks:]
    # Places of a token are those of flux, of latents twice as large; the number of its picture is in front.
    sides = (pictures, *x.shape[2:])
    axes = (torch.arange(side, device=x.device, dtype=x.dtype) for side in sides)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    shown = {}
    if mask.shape[1]:
        everywhere = torch.cat([mask.bool(), mask.new_ones(len(mask), len(grid)).bool()], dim=1)
        shown = {"attention_mask": everywhere[:, None, None]}
    return {
        "timestep": times(x, t),
        "encoder_hidden_states": text[..., :joint],
        "text_encoder_layers": states,
        "txt_ids": x.new_zeros(text.shape[1], 3),
        "img_ids": grid,
        "joint_attention_kwargs": shown,
        "return_dict": False,
    }


class ReferencedFibo(Joined):
    """Fibo that sees a picture as further tokens behind those of the sample."""

    own, others = "transformer", ()

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReferencedFibo:
        """A new one of this configuration, with any weights."""
        from diffusers.models.transformers.transformer_bria_fibo import BriaFiboTransformer2DModel

        return cls(BriaFiboTransformer2DModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity beside an ``"image"`` of the size of the sample, latents."""
        own = fibo_tokens(x)
        given = fibo_arguments(self.transformer, x, t, conditioning, pictures=2)
        seen = torch.cat([own, fibo_tokens(conditioning["image"])], dim=1)
        out = self.transformer(hidden_states=seen, **given)[0]
        return out[:, : own.shape[1]].transpose(1, 2).reshape(x.shape)


def fibo_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def make_fibo_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The two last layers of the language model and behind them all of its layers, as channels."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        found = [pipeline.get_prompt_embeds([prompt]) for prompt in prompts]
        return side_by_side([torch.cat([text, *states], dim=-1)[0] for text, states, _ in found])

    return PipelineText("BriaFiboPipeline", parts, encode)


FIBO = Family(
    "BriaFiboTransformer2DModel",
    call_fibo,
    fibo_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    refusal=refusal,
    joined={"single_transformer_blocks": "last"},
    placement="even",
    guidance_scale=5.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_fibo_text,
)
FIBO_EDIT = replace(
    FIBO,
    call=call_joined,
    layers=in_front("transformer", FIBO)["layers"],
    joined={"transformer.transformer_blocks": "first", "transformer.single_transformer_blocks": "last but one"},
    pipelines=("BriaFiboEdit",),
    conditioning=(*FIBO.conditioning, "image"),
    seen=lambda network: Seen(image="latents"),
    join=ReferencedFibo,
)
