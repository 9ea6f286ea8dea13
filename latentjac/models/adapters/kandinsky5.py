"""Transformers of pictures that attend to a text of Qwen 2.5 VL: Kandinsky 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.experts import rebuilt
from latentjac.models.adapters.family import Family, gets, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, as_pil, check_processor
from latentjac.models.seen import PIXELS, Seen

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels; the configuration names none


class RoundedAttention(torch.nn.Module):
    """The attention of Kandinsky 5, whose turned queries and keys are rounded to bfloat16: by a rounding of slope 1.

    Derivatives of that of diffusers are rounded themselves, by 1 in 256.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        sparse_params: None = None,
        rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the attention makes of tokens ``[B, N, D]``."""
        own = self.attention
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(2, (own.num_heads, -1))
            for part in (own.to_query(hidden_states), own.to_key(seen), own.to_value(seen))
        )
        query = own.query_norm(_wide(query)).type_as(query)
        key = own.key_norm(_wide(key)).type_as(key)
        if rotary_emb is not None:
            query, key = _turned(query, rotary_emb), _turned(key, rotary_emb)
        heads = (part.transpose(1, 2) for part in (query, key, value))
        out = torch.nn.functional.scaled_dot_product_attention(*heads)
        return own.out_layer(out.transpose(1, 2).flatten(2))


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _turned(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    first, second = x.float().unflatten(3, (-1, 2)).unbind(dim=-1)
    rows = [row[..., 0] * first + row[..., 1] * second for row in rotation.unbind(dim=-2)]
    turned = torch.stack(rows, dim=-1).flatten(3)
    rounded = turned.detach().to(torch.bfloat16).float()
    return (turned + (rounded - turned.detach())).type_as(x)


class WideTime(torch.nn.Module):
    """The embedding of a time of Kandinsky 5, in the type of its weights: that of diffusers takes float32 alone."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """That of times ``[B]``."""
        own = self.embedding
        phases = torch.outer(time.float(), own.freqs.to(device=time.device))
        waves = torch.cat([phases.cos(), phases.sin()], dim=-1).to(own.in_layer.weight.dtype)
        return own.out_layer(own.activation(own.in_layer(waves)))


_OTHERS = {"Kandinsky5Attention": RoundedAttention, "Kandinsky5TimeEmbeddings": WideTime}


class SmoothKandinsky5(torch.nn.Module):
    """A transformer of Kandinsky 5 of pictures with :class:`RoundedAttention`, with the weights of the one given."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = rebuilt(transformer, _OTHERS)

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the transformer."""
        return self.transformer.config

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What it predicts for samples ``[B, C, H, W]``, films of one frame.

        Channels of latents of a picture come behind those of the sample, and behind them ones: where it is seen.
        """
        _, down, across = self.config["patch_size"]
        sides = (1, x.shape[2] // down, x.shape[3] // across)
        seen = x if image is None else torch.cat([x, image, torch.ones_like(image[:, :1])], dim=1)
        out = self.transformer(
            hidden_states=seen.movedim(1, 3)[:, None],
            encoder_hidden_states=text,
            timestep=time,
            pooled_projections=pooled,
            visual_rope_pos=[torch.arange(side, device=x.device) for side in sides],
            text_rope_pos=torch.arange(text.shape[1], device=x.device),
            return_dict=False,
        )
        return out[:, 0].movedim(3, 1)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` of the language model and ``"pooled"`` of CLIP.

    One that edits sees an ``"image"`` of the size of the sample, latents.
    """
    time, image = times(x, t).to(x.dtype), conditioning.get("image")
    return network(x, time, conditioning["text"], conditioning["pooled"], image)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_visual_dim"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``; see the layers of DiT."""
    return middle_of(network, "transformer.visual_transformer_blocks")


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture, or looks at a part of the others alone."""
    if config.get("visual_cond") or "I2I" in pipeline:
        return gets(pipeline, "a picture")
    return _sparse(config)


def _sparse(config: Mapping[str, Any]) -> str | None:
    """The same of one that may get a picture."""
    kind = config.get("attention_type", "regular")
    return None if kind == "regular" else f"attention_type must be 'regular', got {kind!r}"


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model behind the instruction before each prompt, and CLIP's pooled embedding."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, pooled, _ = pipeline.encode_prompt(prompts)
        return {"text": text, "pooled": pooled}

    return PipelineText("Kandinsky5T2IPipeline", parts, encode)


def make_seeing_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The same with the picture behind each prompt."""
    check_processor("tokenizer", parts["tokenizer"])

    def encode(pipeline: Any, prompts: list[str], pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        images = [as_pil(picture) for picture in pictures.expand(len(prompts), -1, -1, -1)]
        text, pooled, _ = pipeline.encode_prompt(prompts, images)
        return {"text": text, "pooled": pooled}

    return PipelineText("Kandinsky5I2IPipeline", parts, encode)


KANDINSKY_5 = Family(
    "Kandinsky5Transformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "pooled"),
    refusal=refusal,
    shifted=False,
    join=SmoothKandinsky5,
    guidance_scale=3.5,
    requires={
        "vae": ("AutoencoderKL",),
        "text_encoder": (),
        "tokenizer": (),
        "text_encoder_2": ("CLIPTextModel",),
        "tokenizer_2": (),
    },
    make_text=make_text,
)
KANDINSKY_5_EDIT = replace(
    KANDINSKY_5,
    suits=lambda config: bool(config.get("visual_cond")),
    pipelines=("Kandinsky5I2I",),
    conditioning=("text", "pooled", "image", PIXELS),
    seen=lambda network: Seen(image="latents"),
    refusal=lambda config, pipeline: _sparse(config),
    make_text=make_seeing_text,
)
