"""Transformers with skips and places in the picture by rotation, under texts of BERT and T5: Hunyuan-DiT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.autoencoders import picture_size
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED_SIDE = 64  # of latents, whose places in the picture are scaled to those of this side
_ORIGINAL = 1024.0  # height and width of pictures before they were cropped, which the pipeline says by default
_LENGTHS = 77, 256  # tokens of BERT and of T5


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to ``"text"`` and ``"text_2"``, of BERT and T5, where ``"text_mask"`` and ``"text_mask_2"`` are 1.

    ``"time_ids"``, ``[B, 6]``, are height and width before cropping, those of the picture, and where it was cropped.
    Channels of a learned variance come behind the prediction.
    """
    return network(x, **arguments(network, x, t, conditioning))[0]


def arguments(network: Any, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> dict[str, Any]:
    """What such a network and its ControlNets are called with beside samples."""
    return {
        "timestep": times(x, t).to(x.dtype),
        "encoder_hidden_states": conditioning["text"],
        "text_embedding_mask": conditioning["text_mask"],
        "encoder_hidden_states_t5": conditioning["text_2"].contiguous(),  # rows for all are views
        "text_embedding_mask_t5": conditioning["text_mask_2"],
        "image_meta_size": conditioning["time_ids"].contiguous(),
        "style": torch.zeros(len(x), dtype=torch.long, device=x.device),
        "image_rotary_emb": rotation(network, x),
        "return_dict": False,
    }


def rotation(network: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the places of tokens, which lie in the middle of a square of the trained side."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed

    patch = network.config["patch_size"]
    base, grid = _TRAINED_SIDE // patch, [side // patch for side in x.shape[2:]]
    spans = [round(base * side / max(grid)) for side in grid]
    first = [round((base - span) / 2) for span in spans]
    last = [start + span for start, span in zip(first, spans, strict=True)]
    width = network.inner_dim // network.num_heads
    return get_2d_rotary_pos_embed(width, (first, last), grid, device=x.device, output_type="pt")


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]``, the last before those that get a skip."""
    return middle_of(network, "blocks")


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """Sizes of the picture, without a crop."""
    height, width = map(float, picture_size(model))
    return {"time_ids": torch.tensor([[_ORIGINAL, _ORIGINAL, height, width, 0.0, 0.0]])}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of both encoders."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for index, (length, end) in enumerate(zip(_LENGTHS, ("", "_2"), strict=True)):
            options = {"max_sequence_length": length, "text_encoder_index": index}
            text, _, mask, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, **options)
            tensors |= {f"text{end}": text, f"text_mask{end}": mask}
        return tensors

    return PipelineText("HunyuanDiTPipeline", parts, encode)


HUNYUAN_DIT = Family(
    "HunyuanDiT2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text", "text_mask", "text_2", "text_mask_2", "time_ids"),
    inputs=inputs,
    guidance_scale=5.0,
    requires={"text_encoder": (), "tokenizer": (), "text_encoder_2": (), "tokenizer_2": ()},
    make_text=make_text,
)
