"""Transformers of sound that are told its length: Stable Audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models import t5
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The prediction ``[B, C, L]`` under ``"text"`` and ``"duration"``, ``[B, tokens, channels]`` each.

    The last two tokens of the text are where the sound begins and ends; the only one of the duration is both.
    """
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    config: Any = network.config
    turned = get_1d_rotary_pos_embed(
        config["attention_head_dim"] // 2, x.shape[2] + 1, use_real=True, repeat_interleave_real=False
    )
    return network(
        x,
        times(x, t),
        encoder_hidden_states=conditioning["text"],
        global_hidden_states=conditioning["duration"],
        rotary_embedding=tuple(table.to(x.device) for table in turned),
        return_dict=False,
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Channels and length of latents, by the configuration."""
    return network.config["in_channels"], network.config["sample_size"]


def layers(network: Any) -> Mapping[str, str]:
    """The middle block; see the layers of DiT."""
    return middle_of(network, "transformer_blocks")


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A token for each latent."""
    return shape[1:]


class _DurationText(PipelineText):
    """Where there is no text, the network gets zeros in its place and in that of the two tokens of time."""

    def without_text(self) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds without a prompt."""
        found = self.tensors([""])
        return {**found, "text": torch.zeros_like(found["text"])}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5 and of the time from the beginning to the end of all that the network makes."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        device, coder = pipeline._execution_device, pipeline.vae
        seconds = pipeline.transformer.config.sample_size * coder.hop_length / coder.config.sampling_rate
        text = pipeline.encode_prompt(prompts, device, False)
        start, end = pipeline.encode_duration(0.0, seconds, device, False, len(prompts))
        return {"text": torch.cat([text, start, end], dim=1), "duration": torch.cat([start, end], dim=2)}

    return _DurationText("StableAudioPipeline", parts, encode)


STABLE_AUDIO = Family(
    "StableAudioDiTModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="sound",
    conditioning=("text", "duration"),
    guidance_scale=7.0,
    grid=BlockOutput("transformer_blocks", grid, before=1),
    requires={
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": t5.TOKENIZERS,
        "projection_model": ("StableAudioProjectionModel",),
        "vae": ("AutoencoderOobleck",),
    },
    make_text=make_text,
)
