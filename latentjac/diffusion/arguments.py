"""Checks of what functions of this layer and above take: models, samples, conditioning and prompts."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.arguments import check_dense, check_int, check_kind, check_left, check_number, check_text, is_int, shown
from latentjac.models import Model

Conditioning = tuple[torch.Tensor, ...]


def check_model(function: str, model: object) -> None:
    """Raise unless model is a :class:`Model`."""
    check_kind(function, "model", model, Model, "a latentjac.Model (from latentjac.load)")


def check_samples(function: str, argument: str, x: Any, model: Model) -> torch.Tensor:
    """The samples ``[B, C, H, W]``, if they are of the shape, type and device that the network takes.

    Whether they are finite is seen by what the network makes of them.
    """
    x = check_dense(function, argument, x)
    if x.ndim != 4 or tuple(x.shape[1:]) != model.sample_shape or len(x) == 0:
        raise ValueError(
            f"{function}: {argument} must have shape [B, *{list(model.sample_shape)}], got {list(x.shape)}"
        )
    if x.dtype != model.dtype or x.device != model.device:
        raise ValueError(f"{function}: {argument} must be {model.dtype} on {model.device}, got {x.dtype} on {x.device}")
    return x


def check_timestep(function: str, timestep: Any, total: int) -> int | float:
    """A timestep of a training schedule of so many, whole or fractional."""
    number = (
        check_int(function, "timestep", timestep) if is_int(timestep) else check_number(function, "timestep", timestep)
    )
    if not 0 <= number < total:
        raise ValueError(
            f"{function}: timestep must be in [0, num_train_timesteps) = [0, {total}), got {shown(timestep)}"
        )
    return number


def check_bar(function: str, bar: object) -> None:
    """Raise unless bar is a progress bar or None."""
    if bar is not None and not callable(getattr(bar, "update", None)):
        raise TypeError(f"{function}: bar must be a tqdm progress bar or None, got {type(bar).__name__}")


def check_conditioning(function: str, argument: str, conditioning: Any, count: int | None = None) -> Conditioning:
    """A tuple of tensors with one row, or one for each of ``count`` samples."""
    check_kind(function, argument, conditioning, tuple, "a tuple of tensors")
    tensors = tuple(check_dense(function, f"{argument}[{i}]", c) for i, c in enumerate(conditioning))
    for i, tensor in enumerate(tensors):
        if tensor.ndim == 0 or (count is not None and len(tensor) not in (1, count)):
            rows = "1 row" if count == 1 else f"1 or {count or 'B'} rows"
            raise ValueError(f"{function}: {argument}[{i}] must have {rows}, got shape {list(tensor.shape)}")
    return tensors


def check_prompts(
    function: str, model: Model, prompt: Any, negative_prompt: Any, guidance_scale: Any
) -> tuple[str | list[str] | None, str, float]:
    """Prompt, negative prompt and scale, if the model takes such; those of :meth:`Model.encode_prompt`."""
    if model.text is None:
        where = f"since model {model.name!r} is not conditioned on text"
        for name, value, usual in (("prompt", prompt, None), ("negative_prompt", negative_prompt, "")):
            check_left(function, name, value, usual, where)
        check_left(function, "guidance_scale", guidance_scale, 1.0, where)
        return None, "", 1.0
    check_kind(function, "prompt", prompt, (str, list), "a text, a list of texts", optional=True)
    if isinstance(prompt, list):
        if not prompt:
            raise ValueError(f"{function}: prompt must hold at least one text, got an empty list")
        prompt = [check_text(function, f"prompt[{i}]", text) for i, text in enumerate(prompt)]
    prompt = prompt if isinstance(prompt, list) else check_text(function, "prompt", prompt, optional=True)
    negative_prompt = check_text(function, "negative_prompt", negative_prompt)
    return prompt, negative_prompt, check_number(function, "guidance_scale", guidance_scale, -1e6, 1e6)
