"""The pictures that some networks get beside a sample, read before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentjac.cli.photo import Mask, Picture, open_mask, read_photo
from latentjac.cli.pictures import Pictures
from latentjac.cli.refusals import Refusal, refusing
from latentjac.models import Conditioning, Model
from latentjac.models.prepare import fit_image, inside_of

_FLAGS = {
    "image": "--image",
    "mask": "--inpaint-mask",
    "control": "--control",
    "control_strength": "--control-strength",
    "control_mode": "--control-mode",
    "image_prompt": "--image-prompt",
    "image_prompt or image_embedding": "--image-prompt",
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
        mode: Which kind of picture a union ControlNet sees.
        image_prompt: Picture whose embedding the network gets.
    """

    photo: Picture
    image: Picture | None
    mask: Mask | None
    control: Picture | None
    strength: float | None
    mode: int | None
    image_prompt: Picture | None

    def conditioning(self, model: Model, prompt: str | None, class_label: int | None = None) -> Conditioning:
        """What the network gets under a prompt or a class.

        Raises:
            Refusal: If it gets nothing of the kind, or something is missing.
        """
        if model._embeddings and model.image_encoder is None:
            raise Refusal(
                f"--image-prompt must be encoded by the model, but {model.name!r} has no encoder of pictures: "
                "in Python, model.conditioning(image_embedding=...) takes a ready embedding"
            )
        names = model._names or ()
        given: dict[str, Any] = {"control_strength": self.strength, "control_mode": self.mode}
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
        if self.image_prompt is not None:
            given["image_prompt"] = self.image_prompt.part.image
        with refusing(**_FLAGS):
            return model.conditioning(prompt, class_label=class_label, **given)


def read_beside(photo: Picture, typed: Pictures) -> Beside:
    """Read the pictures; those of the photo's size are cropped as it is, but for the one that is embedded."""
    mask = None if typed.inpaint_mask is None else open_mask(typed.inpaint_mask, photo, "--inpaint-mask")
    embedded = None if typed.image_prompt is None else read_photo("--image-prompt", typed.image_prompt, None)
    image, control = _like(photo, "--image", typed.image), _like(photo, "--control", typed.control)
    return Beside(photo, image, mask, control, typed.control_strength, typed.control_mode, embedded)


def _like(photo: Picture, option: str, file: Path | None) -> Picture | None:
    if file is None:
        return None
    picture = read_photo(option, file, None)
    return picture if photo.crop is None or picture.size != photo.size else read_photo(option, file, photo.crop)
