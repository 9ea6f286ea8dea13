"""Where schedulers of diffusers place their levels, and copies of them that step as their pipelines do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from latentjac.models.levels import Grid
from latentjac.models.schedulers import NOT_STEPPING, PLACED_AS_DDIM, has_flow_sigmas, levels_of, names_of
from latentjac.public import made_on_cpu

# Where pipelines of flows have levels before a shift: where the scheduler places its own, evenly, at whole timesteps,
# evenly with a shift that was fitted to tokens and steps.
PLACEMENTS = ("own", "even", "whole", "fitted", "rounded", "scheduler")
# Slope and height of the fitted shift by tokens, at 10 and at 200 steps; beyond so many tokens it is that at 200.
_AT_10, _AT_200, _FITTED_TOKENS = (8.73809524e-05, 1.89833333), (0.00016927, 0.45666666), 4300
# Of dynamic shifting, where a configuration leaves them out; those of Flux.
_SHIFTS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}


@made_on_cpu
def grid_of(
    function: str, scheduler: Any, num_inference_steps: int, image_seq_len: int | None = None, placement: str = "own"
) -> Grid:
    """The levels that a scheduler places for so many steps.

    Args:
        function: For messages.
        scheduler: Of diffusers.
        num_inference_steps: How many steps.
        image_seq_len: Tokens of a sample, for schedulers with dynamic shifting; by default their
            ``base_image_seq_len``.
        placement: One of ``PLACEMENTS``, of flows: where levels are before a shift, if the scheduler takes them. With
            dynamic shifting ``"own"`` is ``"even"``; ``"scheduler"`` is the scheduler's own there, too.

    Raises:
        TypeError: If it is no scheduler of diffusers.
        ValueError: If it places no such levels.
    """
    levels = levels_of(function, scheduler)
    like_ddim = bool(PLACED_AS_DDIM & set(names_of(scheduler)))
    placing = _ddim_like(scheduler) if like_ddim else _copy(scheduler)
    return levels.grid(_with_timesteps(function, placing, scheduler, num_inference_steps, image_seq_len, placement))


def steps_as_diffusers(scheduler: Any) -> bool:
    """Whether pipelines make pictures of noise by a scheduler."""
    return not NOT_STEPPING.keys() & set(names_of(scheduler))


@made_on_cpu
def stepping(
    function: str,
    scheduler: Any,
    num_inference_steps: int,
    image_seq_len: int | None,
    placement: str,
    device: torch.device,
) -> Any:
    """A copy of a scheduler whose timesteps are those of its pipeline; for what else, see :func:`grid_of`.

    Raises:
        ValueError: If it does not lead from noise to pictures, or has no such steps.
    """
    for name in names_of(scheduler):
        if name in NOT_STEPPING:
            raise ValueError(
                f"{function}: model.scheduler must be one that leads from noise to pictures, got {name}, "
                f"{NOT_STEPPING[name]}; give solver=DDIM() or another scheduler"
            )
    return _with_timesteps(function, _copy(scheduler), scheduler, num_inference_steps, image_seq_len, placement, device)


def _with_timesteps(
    function: str,
    placing: Any,
    scheduler: Any,
    num_inference_steps: int,
    image_seq_len: int | None,
    placement: str,
    device: torch.device | None = None,
) -> Any:
    """A copy of a scheduler, with timesteps as the pipeline of that one sets them."""
    config = scheduler.config
    given: dict[str, Any] = {"num_inference_steps": num_inference_steps}
    dynamic = bool(config.get("use_dynamic_shifting"))
    if dynamic:
        given |= {"mu": _mu(config, num_inference_steps, image_seq_len, placement)}
    if "SCMScheduler" in names_of(scheduler) and num_inference_steps != 2:
        given |= {"intermediate_timesteps": None}  # its default is for two steps alone
    if placement != "scheduler" and (dynamic or (placement != "own" and not has_flow_sigmas(scheduler))):
        given |= _placed(scheduler, num_inference_steps, placement)
    if device is not None:
        given |= {"device": device}
    try:
        placing.set_timesteps(**given)
        if hasattr(placing, "set_sigmas"):
            placing.set_sigmas(num_inference_steps)
    except (ValueError, ArithmeticError, IndexError) as error:
        raise ValueError(
            f"{function}: num_inference_steps must be a number that {type(scheduler).__name__} has levels for, got "
            f"{num_inference_steps}: {error}"
        ) from error
    return placing


def _copy(scheduler: Any) -> Any:
    """Another of the same configuration, whose timesteps can be set."""
    copied = type(scheduler).from_config(scheduler.config)
    if hasattr(scheduler, "set_shift"):
        copied.set_shift(scheduler.shift)  # can be set on the object alone
    return copied


def _ddim_like(scheduler: Any) -> Any:
    """One of DDIM's with the spacing of another, and its power below the first timestep."""
    from diffusers import DDIMScheduler

    config = scheduler.config
    known = ("num_train_timesteps", "timestep_spacing", "steps_offset", "set_alpha_to_one")
    placing = DDIMScheduler(**{key: config[key] for key in known if config.get(key) is not None})
    if not config.get("set_alpha_to_one", True):
        placing.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return placing


def _placed(scheduler: Any, num_inference_steps: int, placement: str) -> dict[str, Any]:
    """Levels before the shift, as pipelines give them to schedulers; those that take none place their own.

    From 1 to 1/n (Flux, Qwen-Image, Lumina 2), or at whole timesteps from T to 1 (CogView 4; Bria without dynamic
    shifting rounds them up).
    """
    if "sigmas" not in inspect.signature(scheduler.set_timesteps).parameters:
        return {}
    total = scheduler.config.num_train_timesteps
    if placement == "rounded" and not scheduler.config.get("use_dynamic_shifting"):
        sigmas = 1 - np.linspace(0, total - 1, num_inference_steps).astype(np.int64) / total
    elif placement == "whole":
        sigmas = np.linspace(total, 1.0, num_inference_steps).astype(np.int64) / total
    else:
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
    return {"num_inference_steps": None, "sigmas": sigmas}


def _mu(config: Mapping[str, Any], steps: int, image_seq_len: int | None, placement: str) -> float:
    """The mu of dynamic shifting for samples of so many tokens."""
    if placement == "whole":
        return shift_by_side(config, image_seq_len)
    if placement != "fitted":
        return _shift(config, image_seq_len)
    tokens = image_seq_len or _SHIFTS["base_image_seq_len"]
    few, many = (slope * tokens + height for slope, height in (_AT_10, _AT_200))
    return float(many if tokens > _FITTED_TOKENS else many + (many - few) * (steps - 200) / 190)


def shift_by_side(config: Mapping[str, Any], image_seq_len: int | None) -> float:
    """The mu of dynamic shifting for samples of so many tokens, linear in the side of a square (CogView 4)."""
    base, most, short, _ = (config.get(key) or usual for key, usual in _SHIFTS.items())
    return float(base + most * math.sqrt((image_seq_len or short) / short))


def _shift(config: Mapping[str, Any], image_seq_len: int | None) -> float:
    """The mu of dynamic shifting for samples of so many tokens, linear between two sizes."""
    base, most, short, long = (config.get(key) or usual for key, usual in _SHIFTS.items())
    length = short if image_seq_len is None else image_seq_len
    return float(base + (length - short) * (most - base) / (long - short))
