"""U-Nets of spectrograms that attend to two texts: AudioLDM 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models import t5
from latentjac.models.adapters.audio_ldm import AUDIO_LDM
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.spectrograms import VOCODERS


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The prediction under ``"text"``, that of a language model, and ``"text_2"``, where ``"text_2_mask"`` is 1."""
    return network(
        x,
        t,
        encoder_hidden_states=conditioning["text"],
        encoder_hidden_states_1=conditioning["text_2"],
        encoder_attention_mask_1=conditioning["text_2_mask"],
        return_dict=False,
    )[0]


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """What a language model writes after CLAP and T5, and the tokens of T5; of no more tokens than a prompt has."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return _named(*pipeline.encode_prompt(prompts, pipeline._execution_device, 1, False))

    def encode_away(pipeline: Any, prompts: list[str], like: torch.Tensor) -> dict[str, torch.Tensor]:
        ready = like.new_zeros(len(prompts), *like.shape[1:])
        both = pipeline.encode_prompt(
            prompts,
            pipeline._execution_device,
            1,
            True,
            negative_prompt=prompts,
            prompt_embeds=ready,
            attention_mask=ready[..., 0].long(),
            generated_prompt_embeds=ready.new_zeros(len(prompts), *_written(pipeline.language_model.config)),
        )
        return _named(*(tensor[: len(prompts)] for tensor in both))

    return PipelineText("AudioLDM2Pipeline", parts, encode, encode_away, like="text_2")


def _written(config: Any) -> tuple[int, int]:
    """How many tokens a language model writes, and their channels."""
    return config.max_new_tokens, config.hidden_size


def _named(text: torch.Tensor, mask: torch.Tensor, written: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"text": written, "text_2": text, "text_2_mask": mask}


AUDIO_LDM_2 = replace(
    AUDIO_LDM,
    network="AudioLDM2UNet2DConditionModel",
    call=call,
    suits=lambda config: True,
    conditioning=("text", "text_2", "text_2_mask"),
    guidance_scale=3.5,
    refusal=lambda config, pipeline: None,
    requires={
        "text_encoder": ("ClapModel",),
        "tokenizer": (),
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer_2": t5.TOKENIZERS,
        "projection_model": ("AudioLDM2ProjectionModel",),
        "language_model": ("GPT2LMHeadModel", "GPT2Model"),
        "vocoder": VOCODERS,
    },
    make_text=make_text,
)
