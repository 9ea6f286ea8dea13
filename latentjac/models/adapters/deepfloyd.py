"""U-Nets on pixels that attend to a prompt of T5: DeepFloyd IF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models import t5
from latentjac.models.adapters import pixel_unet
from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.pipeline_text import PipelineText


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The encoder of prompts of a pipeline."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        device = next(pipeline.text_encoder.parameters()).device
        options = {"do_classifier_free_guidance": False, "device": device, "clean_caption": True}  # where it can
        text, _ = pipeline.encode_prompt(prompts, **options)
        return {"text": text}

    return PipelineText("IFPipeline", parts, encode)


def _suits(config: Mapping[str, Any]) -> bool:
    text = config.get("encoder_hid_dim_type") == "text_proj" and config.get("addition_embed_type") == "text"
    return text and config.get("class_embed_type") is None


DEEPFLOYD = replace(
    TEXT_UNET,
    suits=_suits,
    sample_shape=pixel_unet.sample_shape,
    further=lambda config: (),
    guidance_scale=7.0,
    requires={"text_encoder": ("T5EncoderModel",), "tokenizer": t5.TOKENIZERS},
    make_text=make_text,
)
