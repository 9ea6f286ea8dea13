"""In which form networks get the pictures beside their samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate, pixel_unshuffle

# A tensor of a conditioning: pixels of an "image", in [0, 1], for encoders of text that see it, too.
PIXELS = "pixels"
# Those beside pictures: factors of the features of ControlNets and T2I-Adapters, which of several
# kinds of pictures ControlNets see, and the level of noise of a picture or of its embedding.
STRENGTH, MODE, NOISE_LEVEL = "control_strength", "control_mode", "noise_level"

if TYPE_CHECKING:
    from latentjac.models.model import Model


@dataclass(frozen=True)
class Seen:
    """The form of the pictures that a network gets.

    Attributes:
        control: ``"pixels"`` in [0, 1], ``"latents"`` as samples are, or ``"unshifted"``, latents without the shift of
            the autoencoder.
        image: ``"unscaled"``, latents as the autoencoder gives them, ``"latents"`` as samples are, as those of a
            picture with a mask always are, or ``"pixels"`` in [-1, 1], as many as there are latents.
        folded: Whether the pixels of a mask that are one latent become channels, ``[B, pixels, H, W]``; a mask else is
            ``[B, 1, H, W]``, of the size of a latent.
        several: Whether a sample can have several pictures, ``[B, N, C, H, W]``.
        hidden: Brightness of what is inside of a mask, in [0, 1]; None for a picture that is seen as it is.
    """

    control: str = "pixels"
    image: str = "unscaled"
    folded: bool = False
    several: bool = False
    hidden: float | None = 0.5


def seen_by(model: Model) -> Seen:
    """That of the network of a model."""
    return model._own_family.seen(model.network)


def control_channels(model: Model) -> tuple[int, ...]:
    """Channels of what the ControlNets, T2I-Adapters, or the network itself get of a picture, one each."""
    usual = (3,) if seen_by(model).control == "pixels" else (model.sample_shape[0],)
    return getattr(model.network, "control_channels", usual)


def control_size(model: Model) -> tuple[int, ...]:
    """Height and width of that."""
    codec: Any = model.codec
    return codec.size if seen_by(model).control == "pixels" else model.sample_shape[1:]


def latents_for(model: Model, picture: Any, subject: str) -> torch.Tensor:
    """A picture as the latents that a ControlNet gets, ``[B, C, H, W]``."""
    codec: Any = model.codec
    latents = codec.encode(picture, subject=subject)
    return latents + codec.shift if seen_by(model).control == "unshifted" else latents


def mask_for(model: Model, inside: torch.Tensor) -> torch.Tensor:
    """Where pixels are inside, bool ``[B, 1, height, width]``, as a mask that a network gets."""
    size = model.sample_shape[1:]
    if seen_by(model).folded:
        return pixel_unshuffle(inside.float(), inside.shape[-1] // size[-1])
    return interpolate(inside.float(), size=size)


def mask_channels(model: Model) -> int:
    """Channels of that."""
    codec: Any = model.codec
    return (codec.size[-1] // model.sample_shape[-1]) ** 2 if seen_by(model).folded else 1
