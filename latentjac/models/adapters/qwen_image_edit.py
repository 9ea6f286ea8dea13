"""Qwen-Image that sees a picture, which its text sees as well: the pipelines that edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from latentjac.models.adapters.flux import packed, unpacked
from latentjac.models.adapters.joined import Joined, call, in_front
from latentjac.models.adapters.qwen_image import QWEN_IMAGE, arguments
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText, as_pil, check_processor
from latentjac.models.seen import PIXELS, Seen


class ReferencedQwenImage(Joined):
    """Qwen-Image that sees a picture as further tokens behind those of the sample."""

    own, others = "transformer", ()

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReferencedQwenImage:
        """A new one of this configuration, with any weights."""
        from diffusers import QwenImageTransformer2DModel

        return cls(QwenImageTransformer2DModel.from_config(config))

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """The velocity beside an ``"image"`` of the size of the sample, latents, or several, ``[B, N, C, H, W]``."""
        own, image = packed(x), conditioning["image"]
        others = [packed(one) for one in (image.unbind(1) if image.ndim == 5 else [image])]
        given = arguments(x, t, conditioning["text"], conditioning["text_mask"], pictures=1 + len(others))
        out = self.transformer(torch.cat([own, *others], dim=1), **given)[0]
        return unpacked(out[:, : own.shape[1]], x.shape)


class SeveralQwenImage(ReferencedQwenImage):
    """One that can see several."""


def _seeing(kind: str, prepared: Callable[[Any, list[Any]], Any]) -> Callable[..., PipelineText]:
    """What makes the encoder of prompts of a pipeline of this class, which sees prepared pictures."""

    def encode(pipeline: Any, prompts: Sequence[str], pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        several = pictures if pictures.ndim == 5 else pictures[:, None]
        rows = several.expand(len(prompts), -1, -1, -1, -1)
        texts = [
            pipeline.encode_prompt([prompt], image=prepared(pipeline, [*map(as_pil, row)]))[0][0]
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        mask = [text.new_ones(len(text)) for text in texts]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"text": pad(texts, batch_first=True), "text_mask": pad(mask, batch_first=True)}

    def make(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
        check_processor("processor", parts["processor"])
        return PipelineText(kind, parts, encode)

    return make


def _smaller(pipeline: Any, images: list[Any]) -> list[Any]:
    """Pictures of the size that the text of several pictures sees."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as plus

    sizes = [plus.calculate_dimensions(plus.CONDITION_IMAGE_SIZE, image.width / image.height) for image in images]
    return [
        pipeline.image_processor.resize(image, height, width)
        for image, (width, height) in zip(images, sizes, strict=True)
    ]


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it."""
    asked = [key for key in ("guidance_embeds", "use_additional_t_cond") if config.get(key)]
    return f"{asked[0]} must be False, got True" if asked else None


QWEN_IMAGE_EDIT = replace(
    QWEN_IMAGE,
    call=call,
    layers=in_front("transformer", QWEN_IMAGE)["layers"],
    joined={"transformer.transformer_blocks": "first"},
    pipelines=("QwenImageEdit",),
    conditioning=(*QWEN_IMAGE.conditioning, "image", PIXELS),
    seen=lambda network: Seen(image="latents"),
    refusal=refusal,
    requires={**QWEN_IMAGE.requires, "processor": ()},
    make_text=_seeing("QwenImageEditPipeline", lambda pipeline, images: images[0]),
    join=ReferencedQwenImage,
)
QWEN_IMAGE_EDIT_PLUS = replace(
    QWEN_IMAGE_EDIT,
    pipelines=("QwenImageEditPlus",),
    seen=lambda network: Seen(image="latents", several=True),
    join=SeveralQwenImage,
    make_text=_seeing("QwenImageEditPlusPipeline", _smaller),
)
