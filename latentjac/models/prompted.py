"""The conditioning of a model under prompts or classes, and what is given beside these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from latentjac.models.beside import Beside, blank_beside
from latentjac.models.classes import Asked
from latentjac.models.conditioning import ClassifierFree, Conditioning, ImageGuidance, RescaledGuidance
from latentjac.models.seen import PIXELS
from latentjac.models.text import GUIDANCE_EMBEDDING
from latentjac.public import warn

if TYPE_CHECKING:
    from latentjac.models.model import Model


def conditioning_under(
    function: str,
    model: Model,
    asked: Asked,
    beside: Beside | None = None,
    clip_skip: int | None = None,
    rescale: float = 0.0,
) -> Conditioning:
    """What a model's network gets; of arguments that were checked.

    A network that gets the scale of guidance as an input is not guided from outside.
    """
    beside = Beside() if beside is None else beside
    scale = asked.guidance_scale
    seen = beside.own.get(PIXELS)
    own = {**_tensors(model, asked.prompt, asked.class_label, scale, clip_skip=clip_skip, seen=seen), **beside.own}
    kept = {} if model._family is None else {name: own[of] for name, of in model._family.kept.items()}
    own |= kept
    if not own or scale == 1 or GUIDANCE_EMBEDDING in own:
        if rescale:
            raise ValueError(
                f"{function}: guidance_rescale must be 0 for a network that is not guided from outside, got {rescale:g}"
            )
        return Conditioning(own)
    if scale == 0:
        warn(
            f"{function}: guidance_scale=0 is the prediction under the negative prompt; no guidance, for which "
            "pipelines of diffusers take 0 as well, is 1"
        )
    away = _tensors(model, asked.negative_prompt or None, [asked.negative_class_label], scale, away_from=own, seen=seen)
    away |= beside.negative(function, model) | kept
    if rescale:
        return Conditioning(own, RescaledGuidance(Conditioning(away), scale, rescale))
    if not beside.guides:
        return Conditioning(own, ClassifierFree(Conditioning(away), scale))
    without = {**away, "image": torch.zeros_like(away["image"])}
    return Conditioning(own, ImageGuidance(Conditioning(away), Conditioning(without), scale, beside.image_scale))


def any_conditioning(model: Model) -> Conditioning:
    """One that the network takes, to try it out: under no text, or no class or the first one, with blank pictures."""
    none = model.classes is None or model.classes.null is not None
    asked = Asked(class_label=None if none else 0).checked("load", model)
    return conditioning_under("load", model, asked, blank_beside(model))


def _tensors(
    model: Model,
    prompt: str | list[str] | None,
    labels: Any,
    scale: float,
    *,
    clip_skip: int | None = None,
    away_from: dict[str, torch.Tensor] | None = None,
    seen: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Tensors by name: of classes for networks that take such, else of texts; none for networks with neither.

    Some texts are of pictures that are ``seen``, and those that guidance leads ``away_from`` a prompt are made like it.
    """
    away = away_from is not None
    if model.classes is not None:
        return {"class_label": torch.tensor(labels, device=model.device)}
    if model.text is None:
        return {}
    text: Any = model.text
    skipped: dict[str, Any] = {} if clip_skip is None else {"clip_skip": clip_skip}
    skipped |= {} if seen is None else {"pictures": seen}
    if away_from is not None and getattr(text, "like", None) is not None:
        skipped["like"] = away_from[text.like]
    if prompt is None and hasattr(text, "without_text"):
        tensors = dict(text.without_text(**skipped))
    else:
        encode = getattr(text, "negative_tensors", text.tensors) if away else text.tensors
        tensors = dict(encode(prompt if isinstance(prompt, list) else [prompt or ""], **skipped))
    family = model._family
    if family is not None and family.inputs is not None:
        tensors |= family.inputs(model, tensors, scale, away)
    return {name: tensor.to(model.device, model.dtype) for name, tensor in tensors.items()}
