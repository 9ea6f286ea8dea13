"""Checks of what functions of this layer and above take: models, samples, conditioning and prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import check_dense, check_int, check_kind, check_number, is_int, shown
from latentjac.models import Conditioning, Model
from latentjac.models.arguments import check_fit
from latentjac.models.beside import Beside
from latentjac.models.classes import Asked
from latentjac.models.levels import Levels
from latentjac.models.prompted import conditioning_under


def check_model(function: str, model: object) -> None:
    """Raise unless model is a :class:`Model`."""
    check_kind(function, "model", model, Model, "a latentjac.Model (from latentjac.load)")


def check_samples(function: str, argument: str, x: Any, model: Model) -> torch.Tensor:
    """The samples ``[B, C, H, W]``, if they are of the shape, type and device that the network takes.

    Whether they are finite is seen by what the network makes of them.
    """
    x = check_dense(function, argument, x)
    check_fit(function, argument, x, model)
    return x


def check_timestep(function: str, timestep: Any, levels: Levels) -> int | float:
    """A timestep of a training schedule, whole or fractional."""
    number = (
        check_int(function, "timestep", timestep) if is_int(timestep) else check_number(function, "timestep", timestep)
    )
    if not levels.holds(number):
        raise ValueError(f"{function}: timestep must be in {levels.span}, got {shown(timestep)}")
    return number


def check_bar(function: str, bar: object) -> None:
    """Raise unless bar is a progress bar or None."""
    if bar is not None and not callable(getattr(bar, "update", None)):
        raise TypeError(f"{function}: bar must be a tqdm progress bar or None, got {type(bar).__name__}")


def check_conditioning(function: str, argument: str, conditioning: Any, count: int | None = None) -> Conditioning:
    """A conditioning with one row, or one for each of ``count`` samples."""
    check_kind(function, argument, conditioning, Conditioning, "a latentjac.Conditioning (from model.conditioning)")
    if count is not None and conditioning.num_rows not in (1, count):
        rows = "1 row" if count == 1 else f"1 or {count} rows"
        raise ValueError(f"{function}: {argument} must have {rows}, got {conditioning.num_rows} in {conditioning!r}")
    return conditioning


def conditioning_for(
    function: str,
    model: Model,
    asked: Asked,
    conditioning: Any,
    count: int | None,
    what: str,
    beside: Beside | None = None,
) -> Callable[[], Conditioning]:
    """What makes the conditioning that is asked for: that of prompts or classes, or a ready one; all is checked before.

    Args:
        function: For messages.
        model: The model.
        asked: Arguments of :meth:`Model.conditioning`.
        conditioning: Instead of these.
        count: Number of samples; None where it is not known yet.
        what: What the samples are, for messages.
        beside: What the network gets beside a sample, which goes with the prompts.
    """
    if conditioning is not None:
        asked.check_left(function, "with a conditioning")
        check_conditioning(function, "conditioning", conditioning, count)
        return lambda: conditioning.to(model.device, model.dtype)
    asked = asked.checked(function, model)
    for name, one, several in (("prompt", "one text", asked.prompt), ("class_label", "one label", asked.class_label)):
        if count is not None and isinstance(several, list) and len(several) not in (1, count):
            raise ValueError(f"{function}: {name} must be {one} or {count} ({what}), got {len(several)}")
    if beside is not None and beside.own:
        return lambda: conditioning_under(function, model, asked, beside)
    return lambda: model.conditioning(**vars(asked))
