"""The pictures that some networks get beside a sample, read before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentjac.cli import values
from latentjac.cli.photo import Mask, Picture, open_mask, read_photo
from latentjac.cli.refusals import refusing
from latentjac.models import Conditioning, Model
from latentjac.models.prepare import fit_image, inside_of

FILES = ("--image", "--inpaint-mask", "--control")
_FLAGS = {
    "image": "--image",
    "mask": "--inpaint-mask",
    "control": "--control",
    "control_strength": "--control-strength",
}


@dataclass(frozen=True)
class Beside:
    """What is given beside the photo.

    Attributes:
        photo: The photo, which stands for the picture where there is none.
        image: Picture that is edited or completed.
        mask: Where it is completed.
        control: What a ControlNet or a T2I-Adapter sees, or a map of depth.
        strength: Factor of what these add.
    """

    photo: Picture
    image: Picture | None
    mask: Mask | None
    control: Picture | None
    strength: float | None

    def conditioning(self, model: Model, prompt: str | None, class_label: int | None = None) -> Conditioning:
        """What the network gets under a prompt or a class.

        Raises:
            Refusal: If it gets nothing of the kind, or something is missing.
        """
        names = model._names or ()
        given: dict[str, Any] = {"control_strength": self.strength}
        size = model.codec.size
        if self.image is not None or "image" in names:
            # An upscaler gets a picture of the size of its sample.
            fitted = model.sample_shape[1:] if "noise_level" in names else size
            given["image"] = (self.image or self.photo).fitted((fitted[0], fitted[1])).image
        if self.mask is not None:
            whole = not self.mask.drawn_on_photo or self.photo.crop is not None
            given["mask"] = torch.from_numpy(inside_of(fit_image(self.mask.grey, size, cropped=whole).image).copy())
        if self.control is not None:
            given["control"] = self.control.fitted(size).image
        with refusing(**_FLAGS):
            return model.conditioning(prompt, class_label=class_label, **given)


def check_files(image: Path | None, inpaint_mask: Path | None, control: Path | None) -> None:
    """Raise where one of the files is not there."""
    for option, file in zip(FILES, (image, inpaint_mask, control), strict=True):
        values.check_file(option, "a picture file", file)


def read_beside(
    photo: Picture, image: Path | None, inpaint_mask: Path | None, control: Path | None, strength: float | None
) -> Beside:
    """Read the pictures; those of the photo's size are cropped as it is."""
    mask = None if inpaint_mask is None else open_mask(inpaint_mask, photo, "--inpaint-mask")
    return Beside(photo, _like(photo, "--image", image), mask, _like(photo, "--control", control), strength)


def _like(photo: Picture, option: str, file: Path | None) -> Picture | None:
    if file is None:
        return None
    picture = read_photo(option, file, None)
    return picture if photo.crop is None or picture.size != photo.size else read_photo(option, file, photo.crop)
