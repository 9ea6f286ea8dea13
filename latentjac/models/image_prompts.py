"""Pictures as what a network is conditioned on: embeddings of them, by the picture half of CLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from latentjac.arguments import check_left, check_tensor
from latentjac.models.codec import PixelCodec, to_pil
from latentjac.models.conditioning import FURTHEST
from latentjac.models.prepare import read_image
from latentjac.public import made_on_cpu, public

if TYPE_CHECKING:
    from latentjac.models.model import Model

EMBEDDING = "image_embedding"


@dataclass(frozen=True)
class Embedding:
    """What a network takes as the embedding of a picture.

    Attributes:
        shape: Of one sample: ``(channels,)``, ``(pictures, channels)`` or ``(pictures, tokens, channels)``; numbers of
            pictures and tokens can be others.
        away: What stands for no picture: ``"zeros"``; ``"encoded"``, what an encoder makes of zeros in place of a
            prepared picture; or ``"black"``, what it makes of a black picture.
        given: Channels of one that is given, where the network gets more, which are made of it; None where not.
    """

    shape: tuple[int, ...]
    away: str = "zeros"
    given: int | None = None

    @property
    def ready(self) -> tuple[int, ...]:
        """Shape of one that is given."""
        return self.shape if self.given is None else (*self.shape[:-1], self.given)


@dataclass(frozen=True)
class Noising:
    """The noise that a pipeline adds to a picture, or to its embedding, that the network gets beside the sample.

    Attributes:
        scheduler: Of diffusers, which adds it.
        level: The timestep that the pipeline takes by default.
        normalizer: Of embeddings, with ``scale`` and ``unscale``; None where it is a picture that gets the noise.
    """

    scheduler: Any = field(repr=False)
    level: int = 0
    normalizer: Any = field(default=None, repr=False)

    def noisy(self, clean: torch.Tensor, level: int, generator: torch.Generator) -> torch.Tensor:
        """The same with noise of a level."""
        noise = torch.randn(clean.shape, generator=generator, device=generator.device, dtype=clean.dtype)
        levels = torch.tensor([level] * len(clean), device=clean.device)
        return self.scheduler.add_noise(clean, noise.to(clean.device), timesteps=levels)

    @torch.no_grad()
    def embedding(self, clean: torch.Tensor, level: int, generator: torch.Generator) -> torch.Tensor:
        """An embedding ``[B, channels]`` with noise, followed by that of the level, ``[B, 2 channels]``."""
        mean, std = (part.detach().to(clean) for part in (self.normalizer.mean, self.normalizer.std))
        noised = self.noisy((clean - mean) / std, level, generator) * std + mean
        half = clean.shape[-1] // 2
        phases = level * torch.exp(-math.log(10000) / half * torch.arange(half, dtype=torch.float32))
        place = torch.cat([phases.cos(), phases.sin()]).to(noised).expand(len(noised), -1)
        return torch.cat([noised, place], dim=-1)


class ImageEncoder:
    """The picture half of CLIP and the preprocessing of its pictures, as pipelines use them.

    Attributes:
        encoder: The network, in evaluation mode, gradients off.

    Args:
        processor: Of transformers, such as a ``CLIPImageProcessor``.
        encoder: Its ``CLIPVisionModelWithProjection``.
    """

    def __init__(self, processor: Any, encoder: Any) -> None:
        self._processor, self.encoder = processor, encoder.eval().requires_grad_(False)

    @public
    @made_on_cpu
    @torch.no_grad()
    def encode(self, pictures: Sequence[Image.Image], *, tokens: bool = False) -> torch.Tensor:
        """Embeddings of B pictures, ``[B, channels]``, or features before the last layer, ``[B, tokens, channels]``."""
        return self._encoded(self._processor(list(pictures), return_tensors="pt").pixel_values, tokens)

    @public
    @made_on_cpu
    @torch.no_grad()
    def without_picture(self, *, tokens: bool = False) -> torch.Tensor:
        """What :meth:`encode` gives for a picture of zeros, of one row."""
        config = self.encoder.config
        return self._encoded(torch.zeros(1, config.num_channels, config.image_size, config.image_size), tokens)

    def _encoded(self, pixels: torch.Tensor, tokens: bool) -> torch.Tensor:
        like = next(self.encoder.parameters())
        pixels = pixels.to(like.device, like.dtype)
        if tokens:
            return self.encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return self.encoder(pixels).image_embeds


class ExampleEncoder(ImageEncoder):
    """That of Paint by Example, which has learned what stands for no picture."""

    @public
    @made_on_cpu
    @torch.no_grad()
    def without_picture(self, *, tokens: bool = False) -> torch.Tensor:
        """What stands for no picture, of one row."""
        return self.encoder.uncond_vector.detach()[0]

    def _encoded(self, pixels: torch.Tensor, tokens: bool) -> torch.Tensor:
        like = next(self.encoder.parameters())
        return self.encoder(pixels.to(like.device, like.dtype))[:, 0]


def is_embedding(name: str) -> bool:
    """Whether a tensor of a conditioning is the embedding of a picture."""
    return name == EMBEDDING or name.startswith(f"{EMBEDDING}_")


def embedding_names(count: int) -> list[str]:
    """Names of so many: ``"image_embedding"``, ``"image_embedding_2"`` and so on."""
    return [EMBEDDING, *(f"{EMBEDDING}_{i}" for i in range(2, count + 1))][:count]


def embeddings_in(conditioning: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Those that a conditioning holds, in their order."""
    count = sum(map(is_embedding, conditioning))
    return [conditioning[name] for name in embedding_names(count)]


def embeddings_for(
    function: str, model: Model, prompt: Any, ready: Any, negative: Any, noise: tuple[int, torch.Generator]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Embeddings by name, and those that guidance leads away from, as far as they are given.

    Args:
        function: For messages.
        model: The model.
        prompt: A picture, or one a sample; for several embeddings a list of such.
        ready: An embedding in place of it; the same.
        negative: That which guidance leads away from; the same.
        noise: Level of the noise that they get, and its source.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the network takes none, none or two are given, or a shape is another.
    """
    taken, encoder, noising = model._embeddings, model.image_encoder, model.noising
    given = {"image_prompt": prompt, EMBEDDING: ready, f"negative_{EMBEDDING}": negative}
    if not taken:
        where = f"since the network of {model.name!r} gets no embedding of a picture"
        for name, value in given.items():
            check_left(function, name, value, None, where)
        return {}, {}
    if encoder is None and ready is None:
        raise ValueError(
            f"{function}: image_embedding must be given since the network of {model.name!r} gets the embedding of a "
            f"picture and the model has no encoder of pictures, got {'none' if prompt is None else 'an image_prompt'}"
        )
    if (prompt is None) == (ready is None):
        raise ValueError(
            f"{function}: image_prompt or image_embedding must be given since the network of {model.name!r} gets the "
            f"embedding of a picture, got {'none' if prompt is None else 'both'}"
        )
    argument = EMBEDDING if prompt is None else "image_prompt"
    own = {}
    for name, value, where in _each(function, argument, list(taken), given[argument]):
        shape = taken[name].shape
        if encoder is None or prompt is None:
            own[name] = _ready(where, value, taken[name].ready)
        else:
            own[name] = _shaped(encoder.encode(_opened(where, value), tokens=len(shape) == 3), shape)
        if noising is not None and noising.normalizer is not None:
            own[name] = noising.embedding(own[name], *noise)
    away = {}
    if negative is not None:
        for name, value, where in _each(function, f"negative_{EMBEDDING}", list(taken), negative):
            away[name] = _ready(where, value, taken[name].shape)
    return own, away


def embeddings_away(function: str, model: Model, own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What stands for no picture in place of the embeddings that a network gets; not where it has to be given."""
    away = {}
    for name, embedding in model._embeddings.items():
        if name not in own:
            continue
        tokens = len(embedding.shape) == 3
        if embedding.away == "zeros":
            away[name] = torch.zeros_like(own[name])
        elif model.image_encoder is not None:
            encoder = model.image_encoder
            black = [Image.new("RGB", (8, 8))]
            is_black = embedding.away == "black"
            encoded = encoder.encode(black, tokens=tokens) if is_black else encoder.without_picture(tokens=tokens)
            away[name] = _shaped(encoded, embedding.shape).to(own[name])
        else:
            raise ValueError(
                f"{function}: negative_{name} must be given with guidance since model {model.name!r} does not know "
                "what stands for no picture, got None"
            )
    return away


def _each(function: str, argument: str, names: list[str], value: Any) -> list[tuple[str, Any, str]]:
    """Name, value and place for messages of each embedding."""
    if len(names) == 1:
        return [(names[0], value, f"{function}: {argument}")]
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        got = f"{len(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{function}: {argument} must be a list of {len(names)}, one each adapter, got {got}")
    return [(name, one, f"{function}: {argument}[{i}]") for i, (name, one) in enumerate(zip(names, value, strict=True))]


def _opened(where: str, pictures: Any) -> list[Image.Image]:
    """Pictures of any size as RGB."""
    several = pictures if isinstance(pictures, (list, tuple)) else [pictures]
    if not several:
        raise ValueError(f"{where} must be at least one picture, got an empty list")
    opened: list[Image.Image] = []
    for picture in several:
        if isinstance(picture, torch.Tensor) or hasattr(picture, "dtype"):
            size = picture.shape[-2:] if isinstance(picture, torch.Tensor) else picture.shape[:2]
            coded = PixelCodec((int(size[0]), int(size[1]))).encode(picture, subject=where)
            opened += to_pil(coded / 2 + 0.5)
        else:
            opened.append(read_image(picture, where).image.convert("RGB"))
    return opened


def _ready(where: str, value: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """An embedding with a row for each sample; dimensions that are 1 can be left out."""
    function, _, argument = where.partition(": ")
    tensor = check_tensor(function, argument, value, FURTHEST)
    if tensor.ndim == 1:
        tensor = tensor[None]
    if tensor.ndim == len(shape):
        tensor = tensor.unsqueeze(1)
    if tensor.ndim != len(shape) + 1 or tensor.shape[-1] != shape[-1] or tensor.numel() == 0:
        names = ["B", "pictures", "tokens"][: len(shape)]
        raise ValueError(f"{where} must have shape [{', '.join(names)}, {shape[-1]}], got {list(value.shape)}")
    return tensor


def _shaped(encoded: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """One picture a sample."""
    return encoded if encoded.ndim == len(shape) + 1 else encoded.unsqueeze(1)
