"""Transformers of one stream, the text of Gemma before the picture: Lumina 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import precise
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.adapters.pixel_unet import sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side


class MaskedLumina2(torch.nn.Module):
    """A transformer of Lumina 2 whose texts of several lengths are masked behind their ends.

    The one of diffusers puts the picture right behind each text, by lengths that it reads from the mask: no trace has
    them. Here the picture's tokens come last, and their places are counted from the same lengths.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the transformer."""
        return self.transformer.config

    def forward(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the transformer predicts for samples ``[B, C, H, W]``; the mask is empty where all texts are as long."""
        net, patch = self.transformer, self.config["patch_size"]
        embedded, words = net.time_caption_embed(x, time, text)
        length, grid = words.shape[1], [side // patch for side in x.shape[2:]]
        rotation = net.rope_embedder._get_freqs_cis(_places(x, length, mask, grid))
        shown = None if not mask.shape[1] else mask.bool()
        for block in net.context_refiner:
            words = block(words, shown, rotation[:, :length])
        blocks = x.reshape(len(x), -1, grid[0], patch, grid[1], patch).permute(0, 2, 4, 3, 5, 1)
        tokens = net.x_embedder(blocks.flatten(3).flatten(1, 2))
        for block in net.noise_refiner:
            tokens = block(tokens, None, rotation[:, length:], embedded)
        joint = torch.cat([words, tokens], dim=1)
        if shown is not None:
            shown = torch.cat([shown, shown.new_ones(tokens.shape[:2])], dim=1)
        for block in net.layers:
            joint = block(joint, shown, rotation, embedded)
        out = net.norm_out(joint, embedded)[:, length:]
        out = out.reshape(len(x), *grid, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(len(x), -1, *x.shape[2:])


def _places(x: torch.Tensor, length: int, mask: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """Of each token ``[B, N, 3]``: of words their number, of the picture that behind the last word, row and column."""
    words = torch.nn.functional.pad(torch.arange(length, device=x.device)[:, None], (0, 2)).expand(len(x), -1, -1)
    rows, columns = (torch.arange(side, device=x.device) for side in grid)
    inside = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(1, -1, 2)
    ends = mask.sum(dim=1).long() if mask.shape[1] else torch.full((len(x),), length, device=x.device)
    behind = ends[:, None, None].expand(-1, inside.shape[1], 1)
    return torch.cat([words, torch.cat([behind, inside.expand(len(x), -1, -1)], dim=2)], dim=1)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_mask"``, as :func:`side_by_side` makes them.

    The network gets the signal as its time and predicts x0 - eps.
    """
    time = 1 - precise(x, t) / 1000
    return -network(x, time, conditioning["text"], conditioning["text_mask"])


def rescaled(out: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """What guidance gives, each row of it as long as under the prompt alone."""
    return out * (towards.norm(dim=-1, keepdim=True) / out.norm(dim=-1, keepdim=True))


def layers(network: Any) -> Mapping[str, str]:
    """What comes out of the middle block, tokens ``[B, N, D]`` of the picture."""
    return middle_of(network, "transformer.layers")


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """Gemma, which reads an instruction before each prompt, and none before what guidance leads away from."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return _ended(*pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[:2])

    def encode_away(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        return _ended(*pipeline.encode_prompt(prompts, negative_prompt=prompts)[2:])

    return PipelineText("Lumina2Pipeline", parts, encode, encode_away)


def _ended(text: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    return side_by_side([row[: int(length)] for row, length in zip(text, mask.sum(dim=1), strict=True)])


LUMINA2 = Family(
    "Lumina2Transformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    conditioning=("text", "text_mask"),
    joined={"transformer.layers": "last"},
    shifting_tokens=lambda network, shape: shape[0],  # the pipeline counts channels
    placement="even",
    rescaled=rescaled,
    join=MaskedLumina2,
    guidance_scale=4.0,
    requires={"text_encoder": (), "tokenizer": ()},
    make_text=make_text,
)
