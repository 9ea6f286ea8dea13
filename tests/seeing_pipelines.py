"""Small pipelines whose text sees a picture, of random weights."""

from __future__ import annotations

import functools
import sys
from typing import Any
from unittest import mock

import diffusers
import torch
from image_transformers import WORDS, Qwen2VLProcessor, build_qwen_image, build_words, spread
from packed_transformers import PACKED
from pipelines import build_autoencoder
from transformers import Qwen2_5_VLForConditionalGeneration

_SIGNS = ["<|image_pad|>", "<|vision_start|>"]


class PicturesAlone(Qwen2VLProcessor):
    """One whose pictures are prepared without their text."""

    @property
    def image_processor(self) -> Any:
        return self.pictures


def of_size(kind: Any, side: int) -> Any:
    """A class of pipelines whose pictures have this side: they would be of 1024x1024."""
    module = sys.modules[kind.__module__]

    def called(self: Any, *given: Any, **named: Any) -> Any:
        with mock.patch.object(module, "calculate_dimensions", return_value=(side, side)):
            return kind.__call__(self, *given, **named)

    return type(kind.__name__, (kind,), {"__call__": functools.wraps(kind.__call__)(called)})


def build_longcat_image_edit(side: int = 16) -> Any:
    """A joint block and two single ones on packed latents of 8x8 of 16 channels: the pipeline knows no other number."""
    torch.manual_seed(21)
    config = {**PACKED, "in_channels": 64, "pooled_projection_dim": 16}
    network = diffusers.LongCatImageTransformer2DModel(**config)
    words = build_words()
    words.add_special_tokens({"additional_special_tokens": _SIGNS})
    told = build_qwen_image().text_encoder.config
    told.text_config.vocab_size = len(WORDS) + len(_SIGNS)
    told.image_token_id, told.vision_start_token_id = words.convert_tokens_to_ids(_SIGNS)
    encoder = Qwen2_5_VLForConditionalGeneration(told).eval()
    autoencoder = build_autoencoder(latent_channels=16)
    autoencoder.register_to_config(shift_factor=0.1)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    kind = of_size(diffusers.LongCatImageEditPipeline, side)
    return kind(scheduler, autoencoder, encoder, words, PicturesAlone(), spread(network))
