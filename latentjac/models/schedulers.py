"""Schedulers of diffusers: the levels of noise that each means, or why it cannot be used."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import is_number, shown
from latentjac.models.exploding import Angular, Consistent, Exploding, Preconditioned
from latentjac.models.levels import Angles, Flow, Interpolated, Levels, Table
from latentjac.models.predictions import PREDICTIONS

_KNOWN = "one of diffusers with alphas_cumprod, of flow matching, variance exploding, EDM or consistency"
_TRAINED = "give a scheduler of those that the network was trained for"
_DISTILLED = "whose networks predict a whole way down, no clean sample; give a network that was not distilled"
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
PLACED_AS_DDIM = {
    "DDIMInverseScheduler",
    "DPMSolverMultistepInverseScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "RePaintScheduler",
    "TCDScheduler",
}
# Classes that no pipeline makes pictures by, of noise alone.
NOT_STEPPING = {
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


def check_scheduler(function: str, scheduler: Any) -> None:
    """Raise unless it is a scheduler of diffusers of which levels can be made.

    Raises:
        TypeError: If it is none.
        ValueError: If it is of a class that is of no use.
    """
    if not hasattr(getattr(scheduler, "config", None), "get"):
        raise TypeError(f"{function}: scheduler must be {_KNOWN}, got {type(scheduler).__name__}")
    for kind in names_of(scheduler):
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
    make = next((_MAKERS[name] for name in names_of(scheduler) if name in _MAKERS), None)
    if make is None and not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor):
        raise TypeError(f"{function}: scheduler must be {_KNOWN}, got {type(scheduler).__name__}; {_TRAINED}")
    total = scheduler.config.get("num_train_timesteps")
    if type(total) is not int or total < 1:
        kind = type(scheduler).__name__
        raise ValueError(
            f"{function}: scheduler must have a num_train_timesteps from 1, got {shown(total)} from {kind}"
        )
    if make is None:
        make = _flow if has_flow_sigmas(scheduler) else _table
    return make(function, scheduler, total)


def table_of(function: str, scheduler: Any) -> Table:
    """The levels of a scheduler with ``alphas_cumprod``; raise for others, as :func:`levels_of` does."""
    levels = levels_of(function, scheduler)
    if not isinstance(levels, Table):
        raise ValueError(f"{function}: scheduler must be one with alphas_cumprod, got {type(scheduler).__name__}")
    return levels


def names_of(scheduler: Any) -> list[str]:
    """Of its class and those that it is derived from."""
    return [kind.__name__ for kind in type(scheduler).__mro__]


def has_flow_sigmas(scheduler: Any) -> bool:
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
    names = set(names_of(scheduler))
    if names & PLACED_AS_DDIM:
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
    if NOT_STEPPING.keys() & set(names_of(scheduler)):
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
    return Flow(kind, total, whole=has_flow_sigmas(scheduler))  # solvers of other kinds count whole timesteps


def _angles(function: str, scheduler: Any, total: int) -> Angles:
    _kind_of(function, scheduler, ("trigflow",), "trigflow")
    return Angles("flow_prediction", total)


def _exploding(function: str, scheduler: Any, total: int) -> Exploding:
    return Exploding("score", total, *_noises(function, scheduler))


def _edm(function: str, scheduler: Any, total: int) -> Preconditioned:
    kind = _kind_of(function, scheduler, ("epsilon", "v_prediction"), "epsilon")
    rho = None if scheduler.config.get("sigma_schedule") == "exponential" else _positive(function, scheduler, "rho")
    data, sign = _positive(function, scheduler, "sigma_data"), 1 if kind == "epsilon" else -1
    make = Angular if "CosineDPMSolverMultistepScheduler" in names_of(scheduler) else Preconditioned
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
