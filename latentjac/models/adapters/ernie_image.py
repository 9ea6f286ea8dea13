"""Transformers of one stream on folded latents, the picture before the text of a language model: Ernie-Image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 64  # of folded latents, for pictures of 1024 pixels; the configuration names none


class BatchedErnie(torch.nn.Module):
    """A transformer of Ernie-Image whose blocks are seen with samples first.

    Those of diffusers take and give ``[tokens, B, channels]``. What comes out of each goes through a module of
    ``states`` as ``[B, tokens, channels]``, where it can be read and changed as that of other families.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.states = torch.nn.ModuleList(torch.nn.Identity() for _ in transformer.layers)

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the transformer."""
        return self.transformer.config

    def forward(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the transformer predicts for samples ``[B, C, H, W]``; the mask is empty where all texts are as long."""
        net, patch = self.transformer, self.config["patch_size"]
        grid, words = [side // patch for side in x.shape[2:]], text.shape[1]
        tokens = net.x_embedder(x)
        count = tokens.shape[1]
        joint = torch.cat([tokens, text if net.text_proj is None else net.text_proj(text)], dim=1).transpose(0, 1)
        shown = None
        if mask.shape[1]:
            shown = torch.cat([mask.new_ones(len(x), count), mask], dim=1).bool()[:, None, None]
        rotation = net.pos_embed(_places(x, words, mask, grid))
        embedded = net.time_embedding(net.time_proj(time).to(x.dtype))
        moved = [part.expand(count + words, -1, -1) for part in net.adaLN_modulation(embedded).chunk(6, dim=-1)]
        for layer, state in zip(net.layers, self.states, strict=True):
            joint = state(layer(joint, rotation, moved, shown).transpose(0, 1)).transpose(0, 1)
        out = net.final_linear(net.final_norm(joint, embedded).type_as(joint))[:count].transpose(0, 1)
        out = out.reshape(len(x), *grid, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(len(x), -1, *x.shape[2:])


def _places(x: torch.Tensor, words: int, mask: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """Of each token ``[B, N, 3]``: of the picture the number of words, row and column; of words their number."""
    rows, columns = (torch.arange(side, device=x.device) for side in grid)
    inside = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(1, -1, 2)
    ends = mask.sum(dim=1).long() if mask.shape[1] else torch.full((len(x),), words, device=x.device)
    behind = ends[:, None, None].expand(-1, inside.shape[1], 1)
    numbers = torch.nn.functional.pad(torch.arange(words, device=x.device)[:, None], (0, 2)).expand(len(x), -1, -1)
    return torch.cat([torch.cat([behind, inside.expand(len(x), -1, -1)], dim=2), numbers], dim=1).float()


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them."""
    return network(x, times(x, t), conditioning["text"], conditioning["text_mask"])


def sample_shape(network: Any) -> tuple[int, ...]:
    """Folded latents of a picture of 1024 x 1024."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]`` of the picture."""
    return middle_of(network, "states")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of the language model one layer before its end, of a prompt as it is, which is not rewritten."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return side_by_side(pipeline.encode_prompt(prompts, pipeline.text_encoder.device))

    return PipelineText("ErnieImagePipeline", parts, encode)


ERNIE_IMAGE = Family(
    "ErnieImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=("text", "text_mask"),
    joined={"states": "first"},
    placement="even",
    join=BatchedErnie,
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    ignores=("pe", "pe_tokenizer"),
    make_text=make_text,
)
