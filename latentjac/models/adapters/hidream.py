"""Transformers of pictures with mixtures of experts, under texts of four encoders: HiDream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.experts import MixedTransformer
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED_SIDE = 128  # of latents, for pictures of 1024 pixels


class MixedHiDream(MixedTransformer):
    """A transformer of HiDream; see :class:`MixedTransformer`."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the transformer predicts; samples that are no squares are filled up to the most tokens, as there."""
        net, patch = self.transformer, self.config["patch_size"]
        grid = [side // patch for side in x.shape[2:]]
        blocks = x.reshape(len(x), -1, grid[0], patch, grid[1], patch)
        tokens = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        rows, columns = (torch.arange(side, device=x.device, dtype=torch.float32) for side in grid)
        inside = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
        behind = 0 if grid[0] == grid[1] else net.max_seq - len(inside)
        return net(
            hidden_states=torch.nn.functional.pad(tokens, (0, 0, 0, behind)),
            timesteps=time,
            encoder_hidden_states_t5=conditioning["text"],
            encoder_hidden_states_llama3=conditioning["text_2"].transpose(0, 1),
            pooled_embeds=conditioning["pooled"],
            img_ids=torch.nn.functional.pad(inside, (1, 0, 0, behind)).expand(len(x), -1, -1),
            img_sizes=[tuple(grid)] * len(x),
            hidden_states_masks=torch.nn.functional.pad(x.new_ones(len(x), len(inside)), (0, behind)),
            return_dict=False,
        )[0]


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]``.

    The network gets ``"text"`` of T5, ``"text_2"``, all states of a language model, ``[B, layers, tokens, channels]``,
    and ``"pooled"`` of both encoders of CLIP; it predicts x0 - eps.
    """
    return -network(x, times(x, t), conditioning)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """The picture's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, "transformer.double_stream_blocks", "transformer.single_stream_blocks")


def tokens(network: Any, shape: tuple[int, ...]) -> int:
    """Patches, which come before what they are filled up with and before the text."""
    patch = network.config["patch_size"]
    return shape[1] // patch * (shape[2] // patch)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The four encoders."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _, states, _, pooled, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        return {"text": text, "text_2": states.transpose(0, 1), "pooled": pooled}

    return PipelineText("HiDreamImagePipeline", parts, encode)


_CLIP = ("CLIPTextModelWithProjection",)
HIDREAM = Family(
    "HiDreamImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_2", "pooled"),
    joined={"transformer.double_stream_blocks": "first", "transformer.single_stream_blocks": "first"},
    tokens=tokens,
    join=MixedHiDream,
    guidance_scale=5.0,
    requires={
        **{f"text_encoder{end}": known for end, known in (("", _CLIP), ("_2", _CLIP), ("_3", ()), ("_4", ()))},
        **{f"tokenizer{end}": () for end in ("", "_2", "_3", "_4")},
    },
    make_text=make_text,
)
