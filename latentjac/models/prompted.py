"""The conditioning of a model under prompts, and the pictures that some networks get beside the sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_left, check_tensor
from latentjac.models.classes import Asked
from latentjac.models.codec import PixelCodec
from latentjac.models.conditioning import ClassifierFree, Conditioning
from latentjac.models.prepare import fit_image, inside_of, read_mask
from latentjac.models.text import GUIDANCE_EMBEDDING

if TYPE_CHECKING:
    from latentjac.models.model import Model

_PICTURES = ("mask", "image", "control")


def conditioning_under(
    model: Model, asked: Asked, pictures: Mapping[str, torch.Tensor], clip_skip: int | None = None
) -> Conditioning:
    """What a model's network gets; of arguments that were checked.

    A network that gets the scale of guidance as an input is not guided from outside.
    """
    if model.text is None and model.classes is None:
        return Conditioning()
    scale = asked.guidance_scale
    own = _tensors(model, asked.prompt, asked.class_label, scale, clip_skip=clip_skip)
    if scale == 1 or GUIDANCE_EMBEDDING in own:
        return Conditioning({**own, **pictures})
    away = _tensors(model, asked.negative_prompt or None, [asked.negative_class_label], scale, away=True)
    return Conditioning({**own, **pictures}, ClassifierFree(Conditioning({**away, **pictures}), scale))


def any_conditioning(model: Model) -> Conditioning:
    """One that the network takes, to try it out: under no text, or no class or the first one, with blank pictures."""
    none = model.classes is None or model.classes.null is not None
    asked = Asked(class_label=None if none else 0).checked("load", model)
    return conditioning_under(model, asked, blank_pictures(model))


def _tensors(
    model: Model,
    prompt: str | list[str] | None,
    labels: Any,
    scale: float,
    *,
    clip_skip: int | None = None,
    away: bool = False,
) -> dict[str, torch.Tensor]:
    """Tensors by name: of classes for networks that take such, else of texts."""
    if model.classes is not None:
        return {"class_label": torch.tensor(labels, device=model.device)}
    text: Any = model.text
    skipped = {} if clip_skip is None else {"clip_skip": clip_skip}
    if prompt is None and hasattr(text, "without_text"):
        tensors = dict(text.without_text(**skipped))
    else:
        tensors = dict(text.tensors(prompt if isinstance(prompt, list) else [prompt or ""], **skipped))
    if model._inputs is not None:
        tensors |= model._inputs(model, tensors, scale, away)
    return {name: tensor.to(model.device, model.dtype) for name, tensor in tensors.items()}


def pictures_for(function: str, model: Model, image: Any, mask: Any, control: Any) -> dict[str, torch.Tensor]:
    """Tensors of the pictures that a model's network gets beside a sample.

    Raises:
        TypeError: If image or mask is no picture.
        ValueError: If the network gets one that is not given, or does not get one that is.
    """
    names = [name for name in _PICTURES if name in (model._names or ())]
    for name, value in (("image", image), ("mask", mask), ("control", control)):
        if name not in names:
            check_left(function, name, value, None, f"since the network of {model.name!r} gets none")
        elif value is None:
            raise ValueError(
                f"{function}: {name} must be given since the network of {model.name!r} gets {' and '.join(names)} "
                "beside a sample (conditioning=model.conditioning(prompt, ...)), got None"
            )
    tensors: dict[str, torch.Tensor] = {}
    codec: Any = model.codec
    if "control" in names:
        tensors["control"] = _pixels(codec, control, f"{function}: control")
    if "mask" in names:
        pixels = _pixels(codec, image, f"{function}: image")
        inside = _inside(function, mask, pixels.shape[-2:])
        tensors["mask"] = torch.nn.functional.interpolate(inside.float(), size=model.sample_shape[1:])
        tensors["image"] = codec.encode(pixels.masked_fill(inside, 0.5))  # grey, 0 in [-1, 1]
    elif "image" in names:
        # Networks of InstructPix2Pix get latents as the autoencoder gives them.
        scale = codec.autoencoder.config.scaling_factor if hasattr(codec, "autoencoder") else 1.0
        tensors["image"] = codec.encode(image, subject=f"{function}: image") / scale
    return _placed(model, **tensors)


def _pixels(codec: Any, picture: Any, subject: str) -> torch.Tensor:
    """A picture of the size that a codec takes, ``[B, C, H, W]`` in [0, 1]."""
    return PixelCodec(codec.size, codec.channels).encode(picture, subject=subject) / 2 + 0.5


def blank_pictures(model: Model) -> dict[str, torch.Tensor]:
    """Zeros in place of such pictures, to try a network out."""
    names = [name for name in _PICTURES if name in (model._names or ())]
    if not names:  # as all networks of samples that are no pictures
        return {}
    channels, height, width = model.sample_shape
    shapes = {"mask": (1, 1, height, width), "image": (1, channels, height, width)}
    if "control" in names:
        codec: Any = model.codec
        shapes["control"] = (1, codec.channels, *codec.size)
    return _placed(model, **{name: torch.zeros(shapes[name]) for name in names})


def pictures_of(conditioning: Conditioning) -> dict[str, torch.Tensor]:
    """Those that a conditioning holds."""
    return {name: conditioning[name] for name in _PICTURES if name in conditioning}


def _placed(model: Model, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device, model.dtype) for name, tensor in tensors.items()}


def _inside(function: str, mask: Any, size: tuple[int, ...]) -> torch.Tensor:
    """Where a mask is to be painted anew, bool ``[1, 1, H, W]``."""
    if not isinstance(mask, torch.Tensor):
        subject = f"{function}: mask"
        prepared = fit_image(read_mask(mask, subject), (size[0], size[1]), cropped=False)
        return torch.from_numpy(inside_of(prepared.image).copy())[None, None]
    given = mask if mask.dtype == torch.bool else check_tensor(function, "mask", mask) >= 0.5
    if tuple(given.shape) != tuple(size):
        raise ValueError(f"{function}: mask must have the shape {list(size)} of the picture, got {list(mask.shape)}")
    return given.cpu()[None, None]
