"""Pictures, embeddings of pictures and their strengths, which some networks get beside a sample and a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_int, check_kind, check_left, check_number, check_tensor, is_number
from latentjac.models.autoencoders import picture_size
from latentjac.models.codec import PixelCodec
from latentjac.models.conditioning import FURTHEST, Conditioning, ImageGuidance
from latentjac.models.image_prompts import embeddings_away, embeddings_for, is_embedding
from latentjac.models.prepare import fit_image, inside_of, read_mask
from latentjac.models.seen import (
    MODE,
    NOISE_LEVEL,
    PIXELS,
    STRENGTH,
    control_channels,
    control_size,
    latents_for,
    mask_channels,
    mask_for,
    seen_by,
)

if TYPE_CHECKING:
    from latentjac.models.model import Model

_NAMES = ("mask", "image", "depth", "control", PIXELS, STRENGTH, MODE, NOISE_LEVEL)


@dataclass(frozen=True)
class Given:
    """What is given beside prompts and classes: arguments of :meth:`Model.conditioning`."""

    image: Any = None
    mask: Any = None
    control: Any = None
    control_strength: Any = None
    control_mode: Any = None
    image_prompt: Any = None
    image_embedding: Any = None
    negative_image_embedding: Any = None
    noise_level: Any = None
    generator: Any = None
    image_guidance_scale: Any = 1.0


@dataclass(frozen=True)
class Beside:
    """The tensors of that.

    Attributes:
        own: By name.
        away: Of these, those that are others in what guidance leads away from.
        image_scale: Scale of guidance of the picture; 1 where there is none of its own.
    """

    own: Mapping[str, torch.Tensor] = field(default_factory=dict)
    away: Mapping[str, torch.Tensor] = field(default_factory=dict)
    image_scale: float | torch.Tensor = 1.0

    def negative(self, function: str, model: Model) -> dict[str, torch.Tensor]:
        """All of them in what guidance leads away from."""
        open_ones = {name: tensor for name, tensor in self.own.items() if name not in self.away}
        return {**self.own, **embeddings_away(function, model, open_ones), **self.away}

    @property
    def guides(self) -> bool:
        """Whether the picture has a scale of guidance of its own."""
        return isinstance(self.image_scale, torch.Tensor) or self.image_scale != 1


def beside_for(function: str, model: Model, given: Given, scale: Any) -> Beside:
    """Tensors of what is given, checked.

    Args:
        function: For messages.
        model: The model.
        given: All of it.
        scale: Of the guidance of texts.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the network gets one that is not given, or does not get one that is.
    """
    names = [name for name in _NAMES if name in (model._names or ())]
    _check_taken(function, model, names, given)
    own = _pictures(function, model, names, given)
    embedded, away = embeddings_for(function, model, given.image_prompt, given.image_embedding,
                                    given.negative_image_embedding, _noise(function, model, given))  # fmt: skip
    image_scale = _image_scale(function, model, names, given.image_guidance_scale, scale)
    return Beside(_placed(model, **own, **embedded), _placed(model, **away), image_scale)


def blank_beside(model: Model) -> Beside:
    """Zeros in place of pictures and embeddings, to try a network out."""
    names = [name for name in _NAMES if name in (model._names or ())]
    if not names and not model._embeddings:  # as all networks of samples that are no pictures
        return Beside()
    channels, height, width = model.sample_shape
    shapes: dict[str, tuple[int, ...]] = {
        "image": (3 if NOISE_LEVEL in names else channels, height, width),
        "depth": (1, height, width),
        STRENGTH: (len(control_channels(model)),),
        MODE: (len(control_channels(model)),),
        NOISE_LEVEL: (),
    }
    if PIXELS in names:
        shapes[PIXELS] = (3, *picture_size(model))
    if "mask" in names:
        shapes["mask"] = (mask_channels(model), height, width)
    if "control" in names:
        shapes["control"] = (sum(control_channels(model)), *control_size(model))
    blank = {name: torch.zeros(1, *shapes[name]) for name in names}
    blank |= {name: blank[name].long() for name in (NOISE_LEVEL, MODE) if name in blank}
    return Beside(_placed(model, **blank, **{n: torch.zeros(1, *e.shape) for n, e in model._embeddings.items()}))


def beside_of(conditioning: Conditioning) -> Beside:
    """What a conditioning holds of it."""
    held = {name: tensor for name, tensor in conditioning.items() if name in _NAMES or is_embedding(name)}
    guidance = conditioning.guidance
    if guidance is None:
        return Beside(held)
    away = {name: tensor for name, tensor in guidance.negative.items() if is_embedding(name)}
    return Beside(held, away, guidance.image_scale if isinstance(guidance, ImageGuidance) else 1.0)


def _check_taken(function: str, model: Model, names: Sequence[str], given: Given) -> None:
    """Raise unless what is given is what the network gets."""
    control = "control" if "control" in names else "depth"
    wanted = {"image": "image", "mask": "mask", "control": control}
    for argument, name in wanted.items():
        value = getattr(given, argument)
        if name not in names:
            check_left(function, argument, value, None, f"since the network of {model.name!r} gets none")
        elif value is None:
            arguments = [a for a in ("mask", "image", "control") if wanted[a] in names]
            raise ValueError(
                f"{function}: {argument} must be given since the network of {model.name!r} gets "
                f"{' and '.join(arguments)} beside a sample (conditioning=model.conditioning(prompt, ...)), got None"
            )
    if STRENGTH not in names:
        where = f"since the network of {model.name!r} has no ControlNet and no T2I-Adapter"
        check_left(function, STRENGTH, given.control_strength, None, where)
    if MODE not in names:
        where = f"since the network of {model.name!r} has no ControlNet for several kinds of pictures"
        check_left(function, MODE, given.control_mode, None, where)
    if model.noising is None:
        where = f"since the network of {model.name!r} gets no picture or embedding with noise"
        check_left(function, NOISE_LEVEL, given.noise_level, None, where)
        check_left(function, "generator", given.generator, None, where)


def _pictures(function: str, model: Model, names: Sequence[str], given: Given) -> dict[str, torch.Tensor]:
    """Tensors of pictures by name."""
    tensors: dict[str, torch.Tensor] = {}
    codec: Any = model.codec
    if "control" in names:
        tensors["control"] = _controls(function, model, given.control)
    if STRENGTH in names:
        tensors[STRENGTH] = _strengths(function, given.control_strength, len(control_channels(model)))
    if MODE in names:
        tensors[MODE] = _modes(function, model, given.control_mode)
    if isinstance(given.image, tuple):
        return tensors | _several(function, model, names, given)
    if PIXELS in names:
        tensors[PIXELS] = _pixels(codec, given.image, f"{function}: image")
    if "depth" in names:
        tensors["depth"] = _depth(function, model, given.control)
    if "mask" in names:
        pixels = _pixels(codec, given.image, f"{function}: image")
        inside = _inside(function, given.mask, pixels.shape[-2:])
        tensors["mask"] = mask_for(model, inside)
        hidden = seen_by(model).hidden
        tensors["image"] = codec.encode(pixels if hidden is None else pixels.masked_fill(inside, hidden))
    elif NOISE_LEVEL in names:
        tensors |= _noisy(function, model, given)
    elif "image" in names and seen_by(model).image == "pixels":
        _, height, width = model.sample_shape
        tensors["image"] = PixelCodec((height, width)).encode(given.image, subject=f"{function}: image")
    elif "image" in names:
        scaled = seen_by(model).image == "latents" or not hasattr(codec, "autoencoder")
        scale = 1.0 if scaled else codec.autoencoder.config.scaling_factor
        tensors["image"] = codec.encode(given.image, subject=f"{function}: image") / scale
    return tensors


def _several(function: str, model: Model, names: Sequence[str], given: Given) -> dict[str, torch.Tensor]:
    """Tensors of several pictures of each sample, behind each other in a second dimension."""
    if not seen_by(model).several:
        raise ValueError(
            f"{function}: image must be one picture, or a list with one a sample, since the network of {model.name!r} "
            f"gets no tuple of several, got {len(given.image)}"
        )
    if not given.image:
        raise ValueError(f"{function}: image must be at least one picture, got an empty tuple")
    each = [_pictures(function, model, names, replace(given, image=one)) for one in given.image]
    rows = max(len(tensors["image"]) for tensors in each)
    if any(len(tensors["image"]) not in (1, rows) for tensors in each):
        raise ValueError(f"{function}: image must hold as many pictures a sample for each, got different numbers")
    return {name: torch.stack([tensors[name].expand(rows, -1, -1, -1) for tensors in each], dim=1) for name in each[0]}


def _controls(function: str, model: Model, control: Any) -> torch.Tensor:
    """What they get of their pictures behind each other, ``[B, channels, H, W]``: pixels in [0, 1], or latents."""
    channels = control_channels(model)
    if len(channels) == 1:
        return _control(model, control, f"{function}: control", channels[0])
    several = isinstance(control, (list, tuple))
    if not several or len(control) != len(channels):
        got = f"{len(control)}" if several else type(control).__name__
        raise ValueError(f"{function}: control must be a list of {len(channels)}, one each network, got {got}")
    seen = [_control(model, picture, f"{function}: control[{i}]", channels[i]) for i, picture in enumerate(control)]
    rows = max(map(len, seen))
    if any(len(pictures) not in (1, rows) for pictures in seen):
        raise ValueError(f"{function}: control must hold as many pictures for each network, got {[*map(len, seen)]}")
    return torch.cat([pictures.expand(rows, -1, -1, -1) for pictures in seen], dim=1)


def _control(model: Model, picture: Any, subject: str, channels: int) -> torch.Tensor:
    if seen_by(model).control == "pixels":
        return _pixels(model.codec, picture, subject, channels)
    return latents_for(model, picture, subject)


def _strengths(function: str, strength: Any, count: int) -> torch.Tensor:
    """Those of the networks, ``[1, count]``, 1 by default."""
    if strength is None or is_number(strength):
        strength = [1.0 if strength is None else strength] * count
    check_kind(function, STRENGTH, strength, (list, tuple), "a number, a list of numbers")
    if len(strength) != count:
        raise ValueError(f"{function}: {STRENGTH} must be a number or {count}, one each network, got {len(strength)}")
    return torch.tensor(
        [[check_number(function, f"{STRENGTH}[{i}]", value, -FURTHEST, FURTHEST) for i, value in enumerate(strength)]]
    )


def _modes(function: str, model: Model, mode: Any) -> torch.Tensor:
    """The kinds of pictures that ControlNets see, int64 ``[1, count]``."""
    if mode is None:
        where = f"since the ControlNets of {model.name!r} see several kinds of pictures"
        raise ValueError(f"{function}: {MODE} must be given {where}, got None")
    modes, counts = mode if isinstance(mode, (list, tuple)) else [mode], model.network.control_modes
    if len(modes) != len(counts):
        raise ValueError(f"{function}: {MODE} must be {len(counts)} ints, one each network, got {len(modes)}")
    return torch.tensor(
        [[check_int(function, f"{MODE}[{i}]", value, 0, counts[i] - 1) for i, value in enumerate(modes)]]
    )


def _depth(function: str, model: Model, control: Any) -> torch.Tensor:
    """Maps of depth at the size of a sample, ``[B, 1, H, W]``, the range of each spread to [-1, 1]."""
    pixels = _pixels(model.codec, control, f"{function}: control", 1)
    depth = torch.nn.functional.interpolate(pixels, size=model.sample_shape[1:], mode="bicubic", align_corners=False)
    low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    if bool((high == low).any()):
        raise ValueError(f"{function}: control must be a map of depth, got one that is the same everywhere")
    return 2 * (depth - low) / (high - low) - 1


def _noise(function: str, model: Model, given: Given) -> tuple[int, torch.Generator]:
    """Level of the noise that pictures and embeddings get, and its source; the usual ones of the model by default."""
    source = given.generator
    check_kind(function, "generator", source, torch.Generator, "a torch.Generator", optional=True)
    source = torch.Generator().manual_seed(0) if source is None else source
    if model.noising is None:
        return 0, source
    last, usual = model.noising.scheduler.config.num_train_timesteps - 1, model.noising.level
    return (
        usual if given.noise_level is None else check_int(function, NOISE_LEVEL, given.noise_level, 0, last)
    ), source


def _noisy(function: str, model: Model, given: Given) -> dict[str, torch.Tensor]:
    """A picture of the size of a sample, in [-1, 1] with noise, ``[B, 3, H, W]``, and the level of that, ``[1]``."""
    _, height, width = model.sample_shape
    pixels = PixelCodec((height, width)).encode(given.image, subject=f"{function}: image")
    level, source = _noise(function, model, given)
    noising: Any = model.noising
    return {"image": noising.noisy(pixels, level, source), NOISE_LEVEL: torch.tensor([level])}


def _image_scale(function: str, model: Model, names: Sequence[str], image_scale: Any, scale: Any) -> float:
    number = float(check_number(function, "image_guidance_scale", image_scale, -FURTHEST, FURTHEST))
    if "image" not in names or "mask" in names or NOISE_LEVEL in names or seen_by(model).image != "unscaled":
        where = f"since the network of {model.name!r} is not one of InstructPix2Pix"
        check_left(function, "image_guidance_scale", image_scale, 1.0, where)
    elif number != 1 and scale == 1:
        raise ValueError(
            f"{function}: image_guidance_scale must be 1 without guidance (guidance_scale=1), got {number:g}"
        )
    return number


def _pixels(codec: Any, picture: Any, subject: str, channels: int | None = None) -> torch.Tensor:
    """A picture of the size that a codec takes, ``[B, C, H, W]`` in [0, 1]."""
    return PixelCodec(codec.size, channels or codec.channels).encode(picture, subject=subject) / 2 + 0.5


def _placed(model: Model, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {n: t.to(model.device, model.dtype if t.is_floating_point() else None) for n, t in tensors.items()}


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
