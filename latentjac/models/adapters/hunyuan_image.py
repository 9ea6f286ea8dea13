"""Transformers of pictures beside a text of Qwen 2.5 VL, and letters that a picture is to show: HunyuanImage 2.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, side_by_side

_TRAINED_SIDE = 64  # of latents, for pictures of 2048 pixels; the configuration names none


class WholeTextHunyuan(torch.nn.Module):
    """A transformer of HunyuanImage whose two texts follow each other as they are.

    That of diffusers moves what is masked in them behind the rest, by values of the masks, which no trace has. The
    order of words means nothing to its blocks.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the transformer."""
        return self.transformer.config

    def forward(self, x: torch.Tensor, time: torch.Tensor, *texts: torch.Tensor) -> torch.Tensor:
        """What the transformer predicts for samples ``[B, C, H, W]``.

        Args:
            x: The samples.
            time: Timesteps ``[B]``.
            *texts: The text and its mask, letters and their mask; a mask of texts that are all as long is empty.
        """
        net, patches = self.transformer, self.config["patch_size"]
        text, mask, letters, letters_mask = texts
        grid = [side // patch for side, patch in zip(x.shape[2:], patches, strict=True)]
        shown = _whole(text, mask)
        words = net.context_embedder(text, time, shown)
        if letters.shape[1] and net.context_embedder_2 is not None:
            words = torch.cat([net.context_embedder_2(letters), words], dim=1)
            shown = torch.cat([_whole(letters, letters_mask), shown], dim=1)
        tokens, embedded, rotation = net.x_embedder(x), net.time_guidance_embed(time), net.rope(x)
        everywhere = torch.nn.functional.pad(shown, (tokens.shape[1], 0), value=True)[:, None, None]
        for block in (*net.transformer_blocks, *net.single_transformer_blocks):
            tokens, words = block(tokens, words, embedded, attention_mask=everywhere, image_rotary_emb=rotation)
        out = net.proj_out(net.norm_out(tokens, embedded))
        out = out.reshape(len(x), *grid, -1, *patches).permute(0, 3, 1, 4, 2, 5)
        return out.reshape(len(x), -1, *x.shape[2:])


def _whole(text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Where a text is, of an empty mask, too."""
    return mask.bool() if mask.shape[1] else torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, H, W]`` under ``"text"`` and ``"text_2"`` with their masks, as :func:`side_by_side`."""
    return network(x, times(x, t).to(x.dtype), *(conditioning[name] for name in NAMES))


NAMES = ("text", "text_mask", "text_2", "text_2_mask")


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of a picture of 2048 x 2048."""
    return network.config["in_channels"], _TRAINED_SIDE, _TRAINED_SIDE


def layers(network: Any) -> Mapping[str, str]:
    """The picture's stream behind the middle of all blocks, joint and single; see the layers of DiT."""
    return middle_of(network, "transformer.transformer_blocks", "transformer.single_transformer_blocks")


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it."""
    if config.get("use_meanflow"):
        return "use_meanflow must be False, got True, so it gets the next timestep as well"
    return "guidance_embeds must be False, got True" if config.get("guidance_embeds") else None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The states of the language model two layers before its end, and those of ByT5 of what is in quotation marks."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask, letters, letters_mask = pipeline.encode_prompt(prompts, batch_size=len(prompts))
        second = side_by_side([row[shown] for row, shown in zip(letters, letters_mask.bool(), strict=True)])
        first = side_by_side([row[shown] for row, shown in zip(text, mask.bool(), strict=True)])
        return {**first, "text_2": second["text"], "text_2_mask": second["text_mask"]}

    return PipelineText("HunyuanImagePipeline", parts, encode)


HUNYUAN_IMAGE = Family(
    "HunyuanImageTransformer2DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    sized=True,
    conditioning=NAMES,
    refusal=refusal,
    placement="even",
    join=WholeTextHunyuan,
    guidance_scale=3.5,
    requires={"text_encoder": (), "tokenizer": (), "text_encoder_2": ("T5EncoderModel",), "tokenizer_2": ()},
    ignores=("guider", "ocr_guider"),
    make_text=make_text,
)
