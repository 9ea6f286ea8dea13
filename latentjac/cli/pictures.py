"""Options of models that get pictures beside the photo, as one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, get_type_hints

from latentjac.cli import values
from latentjac.cli.options import Control, ControlMode, ControlStrength, Image, ImagePrompt, InpaintMask


@dataclass(frozen=True)
class Pictures:
    """What was typed; each field is a flag of its own.

    Attributes:
        image: File of the picture that is edited, completed or enlarged.
        inpaint_mask: File of the mask where it is completed.
        control: File of what a ControlNet or a T2I-Adapter sees, or of a map of depth.
        control_strength: Factor of what these add.
        control_mode: Which kind of picture a union ControlNet sees.
        image_prompt: File of the picture whose embedding the network gets.
    """

    image: Image = None
    inpaint_mask: InpaintMask = None
    control: Control = None
    control_strength: ControlStrength = None
    control_mode: ControlMode = None
    image_prompt: ImagePrompt = None

    def check_files(self) -> None:
        """Raise where one of the files is not there."""
        files = {
            "--image": self.image, "--inpaint-mask": self.inpaint_mask, "--control": self.control,
            "--image-prompt": self.image_prompt,
        }  # fmt: skip
        for option, file in files.items():
            values.check_file(option, "a picture file", file)


NO_PICTURES = Pictures()


def with_pictures(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose last parameter ``pictures`` stands for a flag for each field of :class:`Pictures`."""
    own, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    flags = get_type_hints(Pictures, include_extras=True)

    @wraps(command)
    def spread(**given: Any) -> None:
        pictures = Pictures(**{name: given.pop(name) for name in flags})
        command(**given, pictures=pictures)

    kept = [each.replace(annotation=hints[name]) for name, each in own.parameters.items() if name != "pictures"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    added = [inspect.Parameter(f.name, kind, default=f.default, annotation=flags[f.name]) for f in fields(Pictures)]
    del spread.__wrapped__  # type: ignore[attr-defined]  # the parameters of a command are those below
    spread.__signature__ = own.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    spread.__annotations__ = {each.name: each.annotation for each in (*kept, *added)}
    return spread
