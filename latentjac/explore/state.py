"""What a session is made of: what visitors share, a photo, its way to noise, a question and what was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import latentjac
from latentjac.explore.lines import Walker
from latentjac.models import PreparedImage
from latentjac.models.prepare import Box, crop_image, fit_image

AUTO = "auto"


@dataclass(frozen=True)
class Shared:
    """What all visitors share.

    Attributes:
        model: The model.
        steps: Of the way to noise.
        tol: Largest relative residual of a basis.
        seed: Of the solver's start block.
        inversion: Further options of :func:`latentjac.invert`.
        conditioning: What a photo, its box and a prompt are inverted under; by default what the model makes of the
            prompt.
        folder: Where files of visitors are made; that of temporary files by default.
        turn: Held while the network computes: one visitor at a time.
    """

    model: latentjac.Model
    steps: int = 16
    tol: float = 1e-2
    seed: int = 0
    inversion: Mapping[str, Any] = field(default_factory=dict)
    conditioning: Callable[[PreparedImage, Box, str | None], latentjac.Conditioning] | None = None
    folder: Path | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a picture in pixels."""
        return self.model.codec.size

    @property
    def layers(self) -> list[str]:
        """Feature maps that have names of their own."""
        return [AUTO, *self.model.layers, "x0", "eps", "image"]

    def under(self, photo: PreparedImage, box: Box, prompt: str | None) -> latentjac.Conditioning:
        """What a photo is inverted under."""
        if self.conditioning is None:
            return self.model.conditioning(prompt)
        return self.conditioning(photo, box, prompt)


@dataclass(frozen=True)
class Photo:
    """A photo that was opened.

    Attributes:
        name: Of its file.
        whole: It upright, and what was done to it.
        box: The part of it that is used, in pixels.
    """

    name: str
    whole: PreparedImage
    box: Box

    def fitted(self, size: tuple[int, int]) -> PreparedImage:
        """The part that is used at a size."""
        return fit_image(crop_image(self.whole, self.box, "crop"), size, cropped=True)


@dataclass(frozen=True)
class Way:
    """A photo and its way to noise.

    Attributes:
        picture: The photo at the model's size.
        back: The reconstruction from noise.
        levels: Pictures of the samples at all levels.
        trajectory: The way.
        prompt: What the photo was said to show.
    """

    picture: Image.Image
    back: Image.Image
    levels: tuple[Image.Image, ...]
    trajectory: latentjac.Trajectory
    prompt: str = ""


@dataclass(frozen=True)
class Question:
    """What directions are asked for.

    Attributes:
        layer: Feature map; ``"auto"`` is ``"mid"``, or with a mask ``"x0"`` unless the method adds to features.
        k: How many.
        method: How to walk along them, ``"guidance"``, ``"linear"``, ``"geodesic"`` or ``"h-space"``.
        end: Farthest distance of the pictures, in the unit of the method.
        words: For models with text: what directions are found and followed under; empty for the photo's.
        mask: Where edits are meant to be, bool ``[H, W]`` at sample size.
    """

    layer: str = AUTO
    k: int = 4
    method: str = "guidance"
    end: float = 6.0
    words: str = ""
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Found:
    """Directions at a point.

    Attributes:
        question: What was asked for.
        basis: The basis they come from.
        walker: Draws pictures along them.
    """

    question: Question
    basis: latentjac.LocalBasis
    walker: Walker


@dataclass(frozen=True)
class Kept:
    """A direction that is kept as a slider.

    Attributes:
        path: Its file.
        title: What it is called.
        change: RMS change of the picture at value 1.
    """

    path: Path
    title: str
    change: float
