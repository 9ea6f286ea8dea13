"""Schedulers of diffusers: the levels of noise that each means, and where it places them; or why it cannot be used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from latentjac.arguments import is_number, shown
from latentjac.models.exploding import Angular, Consistent, Exploding, Preconditioned
from latentjac.models.levels import Angles, Flow, Grid, Interpolated, Levels, Table
from latentjac.models.predictions import PREDICTIONS

_KNOWN = "one of diffusers with alphas_cumprod, of flow matching, variance exploding, EDM or consistency"
_TRAINED = "give a scheduler of those that the network was trained for"
_DISTILLED = "whose networks predict the end of a path, no mean of samples; give a network that was not distilled"
_TOKENS = "whose levels are those of tokens, without a Jacobian; give a network on pixels or latents"
# Of no use here, and why.
_REFUSED = {
    "AmusedScheduler": _TOKENS,
    "BlockRefinementScheduler": _TOKENS,
    "DDPMWuerstchenScheduler": f"whose timesteps are fractions of its own schedule; {_TRAINED}",
    "DiscreteDDIMScheduler": _TOKENS,
    "EntropyBoundScheduler": _TOKENS,
    "FlowMapEulerDiscreteScheduler": _DISTILLED,
    "HeliosDMDScheduler": f"which changes the size of samples on its way; {_TRAINED}",
    "HeliosScheduler": f"which changes the size of samples on its way; {_TRAINED}",
    "IPNDMScheduler": f"whose networks make sound; {_TRAINED}",
    "KarrasVeScheduler": f"whose networks get half the sample; {_TRAINED}",
    "MiniMaxH3Scheduler": f"whose networks get the signal as their time; {_TRAINED}",
    "PiflowScheduler": _DISTILLED,
    "RFD4ProteinaScheduler": f"whose samples are proteins; {_TRAINED}",
    "VQDiffusionScheduler": _TOKENS,
}
# Their own timesteps are no way up and down: repeated, of few steps only, or from clean to noisy.
_PLACED_AS_DDIM = {
    "DDIMInverseScheduler",
    "DPMSolverMultistepInverseScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "RePaintScheduler",
    "TCDScheduler",
}
# Classes that no pipeline makes pictures by, of noise alone.
_NOT_STEPPING = {
    "DDIMInverseScheduler": "which leads from pictures to noise",
    "DPMSolverMultistepInverseScheduler": "which leads from pictures to noise",
    "RePaintScheduler": "which completes a picture that it is given",
}
# Of those with powers: classes whose timesteps can be fractional, and such that round them with their own sigmas; and
# settings of these, with which levels lie between whole timesteps: all other classes round what the network gets, to
# the nearest one or down.
_FRACTIONAL = {
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
}
_MIXED = {"KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"}
_NEAREST, _BELOW = ("use_karras_sigmas", "use_lu_lambdas"), ("use_exponential_sigmas", "use_beta_sigmas")
# Where pipelines of flows have levels before a shift: where the scheduler places its own, evenly, at whole timesteps,
# evenly with a shift that was fitted to tokens and steps.
PLACEMENTS = ("own", "even", "whole", "fitted", "rounded", "scheduler")
# Slope and height of the fitted shift by tokens, at 10 and at 200 steps; beyond so many tokens it is that at 200.
_AT_10, _AT_200, _FITTED_TOKENS = (8.73809524e-05, 1.89833333), (0.00016927, 0.45666666), 4300
# Of dynamic shifting, where a configuration leaves them out; those of Flux.
_SHIFTS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}


def check_scheduler(function: str, scheduler: Any) -> None:
    """Raise unless it is a scheduler of diffusers of which levels can be made.

    Raises:
        TypeError: If it is none.
        ValueError: If it is of a class that is of no use.
    """
    if not hasattr(getattr(scheduler, "config", None), "get"):
        raise TypeError(f"{function}: scheduler must be {_KNOWN}, got {type(scheduler).__name__}")
    for kind in _names(scheduler):
        check_class(function, kind)


def check_class(function: str, kind: str) -> None:
    """Raise if schedulers of a class are of no use."""
    if kind in _REFUSED:
        raise ValueError(f"{function}: scheduler must be {_KNOWN}, got {kind}, {_REFUSED[kind]}")


def levels_of(function: str, scheduler: Any) -> Levels:
    """The levels of noise that a scheduler of diffusers means.

    Raises:
        TypeError: If it is no scheduler of diffusers.
        ValueError: If there are no such levels here; it names the scheduler.
    """
    check_scheduler(function, scheduler)
    make = next((_MAKERS[name] for name in _names(scheduler) if name in _MAKERS), None)
    if make is None and not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor):
        raise TypeError(f"{function}: scheduler must be {_KNOWN}, got {type(scheduler).__name__}; {_TRAINED}")
    total = scheduler.config.get("num_train_timesteps")
    if type(total) is not int or total < 1:
        kind = type(scheduler).__name__
        raise ValueError(
            f"{function}: scheduler must have a num_train_timesteps from 1, got {shown(total)} from {kind}"
        )
    if make is None:
        make = _flow if _has_flow_sigmas(scheduler) else _table
    return make(function, scheduler, total)


def table_of(function: str, scheduler: Any) -> Table:
    """The levels of a scheduler with ``alphas_cumprod``; raise for others, as :func:`levels_of` does."""
    levels = levels_of(function, scheduler)
    if not isinstance(levels, Table):
        raise ValueError(f"{function}: scheduler must be one with alphas_cumprod, got {type(scheduler).__name__}")
    return levels


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
    like_ddim = bool(_PLACED_AS_DDIM & set(_names(scheduler)))
    with torch.device("cpu"):  # whatever the default device is
        placing = _ddim_like(scheduler) if like_ddim else _copy(scheduler)
    return levels.grid(_with_timesteps(function, placing, scheduler, num_inference_steps, image_seq_len, placement))


def steps_as_diffusers(scheduler: Any) -> bool:
    """Whether pipelines make pictures of noise by a scheduler."""
    return not _NOT_STEPPING.keys() & set(_names(scheduler))


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
    for name in _names(scheduler):
        if name in _NOT_STEPPING:
            raise ValueError(
                f"{function}: model.scheduler must be one that leads from noise to pictures, got {name}, "
                f"{_NOT_STEPPING[name]}; give solver=DDIM() or another scheduler"
            )
    with torch.device("cpu"):
        copied = _copy(scheduler)
    return _with_timesteps(function, copied, scheduler, num_inference_steps, image_seq_len, placement, device)


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
    if "SCMScheduler" in _names(scheduler) and num_inference_steps != 2:
        given |= {"intermediate_timesteps": None}  # its default is for two steps alone
    if placement != "scheduler" and (dynamic or (placement != "own" and not _has_flow_sigmas(scheduler))):
        given |= _placed(scheduler, num_inference_steps, placement)
    if device is not None:
        given |= {"device": device}
    with torch.device("cpu"):  # whatever the default device is
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


def _names(scheduler: Any) -> list[str]:
    """Of its class and those that it is derived from."""
    return [kind.__name__ for kind in type(scheduler).__mro__]


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


def _has_flow_sigmas(scheduler: Any) -> bool:
    """Whether the class knows of them: others keep the setting in their configuration, and ignore it."""
    known = "use_flow_sigmas" in inspect.signature(type(scheduler).__init__).parameters
    return known and bool(scheduler.config.get("use_flow_sigmas"))


def _kind_of(function: str, scheduler: Any, kinds: tuple[str, ...], usual: str) -> str:
    kind = scheduler.config.get("prediction_type", usual)
    if kind not in kinds:
        raise ValueError(
            f"{function}: scheduler must have a prediction_type of {list(kinds)}, got {shown(kind)} from "
            f"{type(scheduler).__name__}"
        )
    return str(kind)


def _table(function: str, scheduler: Any, total: int) -> Table:
    name, powers = type(scheduler).__name__, scheduler.alphas_cumprod
    if list(powers.shape) != [total]:
        raise ValueError(
            f"{function}: scheduler must have {total} finite alphas_cumprod (num_train_timesteps), "
            f"got shape {list(powers.shape)} from {name}"
        )
    config = scheduler.config
    kind = _kind_of(function, scheduler, tuple(k for k in PREDICTIONS if k != "flow_prediction"), "epsilon")
    if config.get("timestep_type") == "continuous" and kind == "v_prediction":
        raise ValueError(
            f"{function}: scheduler must have a timestep_type of 'discrete', got 'continuous' from {name}; give "
            "EDMEulerScheduler with sigma_data = 1 and prediction_type 'v_prediction'"
        )
    low, high = float(powers.min()), float(powers.max())
    if not 0 <= low <= high < 1:  # NaN, too
        raise ValueError(
            f"{function}: scheduler must have {total} finite alphas_cumprod (num_train_timesteps) in [0, 1), got "
            f"others from {name}"
        )
    if kind == "epsilon" and low == 0:
        raise ValueError(
            f"{function}: scheduler must leave some signal at every timestep where the network predicts noise "
            f"(zero terminal SNR goes with v_prediction and sample), got none from {name}"
        )
    if config.get("rescale_betas_zero_snr") and low > _LEAST_POWER:
        raise ValueError(
            f"{function}: scheduler must be of a class that knows rescale_betas_zero_snr, such as DDIMScheduler, got "
            f"{name}, which ignores it"
        )
    names = set(_names(scheduler))
    if names & _PLACED_AS_DDIM:
        return Table(kind, total, powers)
    nearest, below = (any(config.get(key) for key in keys) for keys in (_NEAREST, _BELOW))
    scaled = bool(names & (_FRACTIONAL | _MIXED))
    if not scaled and not nearest and not below:
        return Table(kind, total, powers)
    told = "itself"
    if nearest and not names & _FRACTIONAL:
        told = "nearest"
    elif below and not scaled:
        told = "below"
    begins = scaled and config.get("timestep_spacing") in ("linspace", "trailing")
    return Interpolated(kind, total, powers, told, begins)


_LEAST_POWER = 2.0**-23  # some leave 2^-24 at the top instead of zero


def _flow(function: str, scheduler: Any, total: int) -> Flow:
    if _NOT_STEPPING.keys() & set(_names(scheduler)):
        raise ValueError(
            f"{function}: scheduler must be {_KNOWN}, got {type(scheduler).__name__}, which leads from pictures to "
            "noise, with use_flow_sigmas; give the one that leads back"
        )
    if scheduler.config.get("invert_sigmas"):
        raise ValueError(
            f"{function}: scheduler must have invert_sigmas = False, got True from {type(scheduler).__name__}, whose "
            "network gets the signal as its time; give a network that gets the noise"
        )
    kind = _kind_of(function, scheduler, ("flow_prediction", "sample"), "flow_prediction")
    return Flow(kind, total, whole=_has_flow_sigmas(scheduler))  # solvers of other kinds count whole timesteps


def _angles(function: str, scheduler: Any, total: int) -> Angles:
    _kind_of(function, scheduler, ("trigflow",), "trigflow")
    return Angles("flow_prediction", total)


def _exploding(function: str, scheduler: Any, total: int) -> Exploding:
    return Exploding("score", total, *_noises(function, scheduler))


def _edm(function: str, scheduler: Any, total: int) -> Preconditioned:
    kind = _kind_of(function, scheduler, ("epsilon", "v_prediction"), "epsilon")
    rho = None if scheduler.config.get("sigma_schedule") == "exponential" else _positive(function, scheduler, "rho")
    data, sign = _positive(function, scheduler, "sigma_data"), 1 if kind == "epsilon" else -1
    make = Angular if "CosineDPMSolverMultistepScheduler" in _names(scheduler) else Preconditioned
    return make("edm", total, *_noises(function, scheduler), rho, data, sign)


def _consistent(function: str, scheduler: Any, total: int) -> Consistent:
    rho, data = (_positive(function, scheduler, key) for key in ("rho", "sigma_data"))
    return Consistent("consistency", total, *_noises(function, scheduler), rho, data)


def _noises(function: str, scheduler: Any) -> tuple[float, float]:
    """The smallest and the largest noise of a variance exploding scheduler."""
    low, high = (_positive(function, scheduler, key) for key in ("sigma_min", "sigma_max"))
    if low >= high:
        raise ValueError(
            f"{function}: scheduler must have a sigma_min below its sigma_max, got {low:g} and {high:g} from "
            f"{type(scheduler).__name__}"
        )
    return low, high


def _positive(function: str, scheduler: Any, key: str) -> float:
    value = scheduler.config.get(key)
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(
            f"{function}: scheduler must have a positive {key}, got {shown(value)} from {type(scheduler).__name__}"
        )
    return float(value)


# Classes of schedulers without alphas_cumprod, and what makes levels of one.
_MAKERS: dict[str, Callable[[str, Any, int], Levels]] = {
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _flow,
    "FlowMatchLCMScheduler": _flow,
    "LTXEulerAncestralRFScheduler": _flow,
    "SCMScheduler": _angles,
    "CMStochasticIterativeScheduler": _consistent,
    "ScoreSdeVeScheduler": _exploding,
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": _edm,
    "CosineDPMSolverMultistepScheduler": _edm,
}
