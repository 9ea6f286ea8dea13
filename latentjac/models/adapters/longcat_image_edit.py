"""LongCat-Image that sees a picture, which its text sees as well: the pipeline that edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.flux import packed, places, unpacked
from latentjac.models.adapters.joined import Joined, call, in_front
from latentjac.models.adapters.longcat_image import LONGCAT_IMAGE
from latentjac.models.adapters.ovis_image import word_places
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, as_pil, check_processor
from latentjac.models.seen import PIXELS, Seen


class ReferencedLongCat(Joined):
    """LongCat-Image that sees a picture as further tokens behind those of the sample."""

    own, others = "transformer", ()

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReferencedLongCat:
        """A new one of this configuration, with any weights."""
        from diffusers import LongCatImageTransformer2DModel

        return cls(LongCatImageTransformer2DModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity beside an ``"image"`` of the size of the sample, latents; places begin behind the text."""
        own, text = packed(x), conditioning["text"]
        words = text.shape[1]
        starts = [x.new_tensor([number, words, words]) for number in (1, 2)]
        out = self.transformer(
            hidden_states=torch.cat([own, packed(conditioning["image"])], dim=1),
            timestep=times(x, t).to(x.dtype) / 1000,
            encoder_hidden_states=text,
            txt_ids=word_places(x, words),
            img_ids=torch.cat([places(x) + start for start in starts]),
            return_dict=False,
        )[0]
        return unpacked(out[:, : own.shape[1]], x.shape)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The last states of the language model, of a picture of half the size and of each prompt behind it."""
    check_processor("text_processor", parts["text_processor"])

    def encode(pipeline: Any, prompts: Sequence[str], pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        images = [as_pil(picture) for picture in pictures.expand(len(prompts), -1, -1, -1)]
        smaller = [pipeline.image_processor.resize(image, image.height // 2, image.width // 2) for image in images]
        texts = [
            pipeline.encode_prompt([prompt], image=image)[0] for prompt, image in zip(prompts, smaller, strict=True)
        ]
        return {"text": torch.cat(texts)}

    return PipelineText("LongCatImageEditPipeline", parts, encode)


LONGCAT_IMAGE_EDIT = replace(
    LONGCAT_IMAGE,
    call=call,
    layers=in_front("transformer", LONGCAT_IMAGE)["layers"],
    joined={f"transformer.{blocks}": "first" for blocks in ("transformer_blocks", "single_transformer_blocks")},
    pipelines=("LongCatImageEdit",),
    conditioning=("text", "image", PIXELS),
    seen=lambda network: Seen(image="latents"),
    refusal=lambda config, pipeline: None,
    rescaled=None,
    requires={**LONGCAT_IMAGE.requires, "text_processor": ()},
    ignores=(),
    make_text=make_text,
    join=ReferencedLongCat,
)
