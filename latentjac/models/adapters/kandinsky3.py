"""U-Nets that attend to a text of T5: Kandinsky 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels; the configuration names none


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts; it attends to ``"text"`` where ``"text_mask"``, ``[B, tokens]``, is 1."""
    text, mask = conditioning["text"], conditioning["text_mask"]
    return network(x, t, encoder_hidden_states=text, encoder_attention_mask=mask, return_dict=False)[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the coarsest level on the way down: there is no block between it and the way up."""
    middle = f"down_blocks.{len(network.down_blocks) - 1}"
    return {"mid": middle, "h": middle}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5 and one of zeros behind the longest text; no text to lead away from is zeros alone, masked.

    A text to lead away from has as many tokens as it has words; its pipeline gives it those of the prompt.
    """

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _, mask, _ = pipeline.encode_prompt(prompts, False, _cut_context=True)
        return {"text": text, "text_mask": mask}

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        found = encode(pipeline, prompts)
        told = torch.tensor([bool(prompt) for prompt in prompts], device=found["text"].device)
        return {name: tensor * told.view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in found.items()}

    return PipelineText("Kandinsky3Pipeline", parts, encode, encode_away)


KANDINSKY_3 = Family(
    "Kandinsky3UNet",
    call,
    sample_shape,
    layers,
    sized=True,
    conditioning=("text", "text_mask"),
    guidance_scale=4.0,  # the pipeline adds 3 times the difference to the prediction under the prompt
    requires={"movq": ("VQModel",), "text_encoder": ("T5EncoderModel",), "tokenizer": ()},
    make_text=make_text,
)
