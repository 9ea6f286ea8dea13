"""U-Nets as those of Stable Diffusion, under texts of other encoders: AltDiffusion, and latent diffusion with BERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.pipeline_text import PipelineText

_MOST_TOKENS = 77  # of latent diffusion, as its pipeline has it


def make_alt_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of XLM-RoBERTa, projected."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": pipeline.encode_prompt(prompts, pipeline.device, 1, False)[0]}

    return PipelineText("AltDiffusionPipeline", parts, encode)


def make_bert_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of the encoder that was trained with the network; the pipeline encodes them where it samples."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        tokens = pipeline.tokenizer(
            prompts, padding="max_length", max_length=_MOST_TOKENS, truncation=True, return_tensors="pt"
        )
        return {"text": pipeline.bert(tokens.input_ids.to(pipeline.bert.device))[0]}

    return PipelineText("LDMTextToImagePipeline", parts, encode)


ALT_DIFFUSION = replace(
    TEXT_UNET,
    requires={
        "text_encoder": ("RobertaSeriesModelWithTransformation",),
        "tokenizer": ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast"),
    },
    make_text=make_alt_text,
)
LATENT_DIFFUSION = replace(
    TEXT_UNET, guidance_scale=1.0, requires={"bert": (), "tokenizer": ()}, make_text=make_bert_text
)
