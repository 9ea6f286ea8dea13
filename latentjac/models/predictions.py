"""What a network predicts, as the clean sample and the noise in a noisy one ``x = signal x0 + noise eps``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from latentjac.arguments import shown

Tensor = torch.Tensor


class Prediction(NamedTuple):
    """The clean sample and the noise that a network sees in a noisy sample, ``[B, C, H, W]`` each."""

    x0: Tensor
    eps: Tensor


# Of the output and the noisy sample, signal and noise: a new kind of network is a row here.
_CONVERSIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Prediction]] = {
    "epsilon": lambda out, x, a, s: Prediction((x - s * out) / a, out),
    # v = a eps - s x0 (Salimans & Ho 2022), where a^2 + s^2 = 1.
    "v_prediction": lambda out, x, a, s: Prediction(a * x - s * out, a * out + s * x),
    "sample": lambda out, x, a, s: Prediction(out, (x - a * out) / s),
}
PREDICTIONS = tuple(_CONVERSIONS)


def predicted(kind: str, out: Tensor, x: Tensor, signal: Tensor, noise: Tensor) -> Prediction:
    """Clean sample and noise from what a network returns.

    Where a level has no signal (or no noise) only the one of the two that follows without a division is finite.

    Args:
        kind: One of ``PREDICTIONS``, diffusers' ``prediction_type``.
        out: The network's output, ``[B, C, H, W]``.
        x: The noisy sample it got.
        signal: Factor of the clean sample in it, broadcast to x.
        noise: Standard deviation of the noise in it, broadcast to x.
    """
    return _CONVERSIONS[kind](out, x, signal, noise)


def check_scheduler(function: str, scheduler: Any) -> int:
    """The number of training timesteps of a diffusers scheduler that has signal powers.

    Raises:
        TypeError: If it is none.
        ValueError: If its powers do not fit its configuration.
    """
    config: Any = getattr(scheduler, "config", None)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if not hasattr(config, "get") or not isinstance(alphas, torch.Tensor):
        raise TypeError(
            f"{function}: scheduler must be one of diffusers with alphas_cumprod (DDPM, DDIM and relatives), "
            f"got {type(scheduler).__name__}"
        )
    total = config.get("num_train_timesteps")
    if type(total) is not int or list(alphas.shape) != [total]:
        raise ValueError(
            f"{function}: scheduler must have {total} finite alphas_cumprod (num_train_timesteps), "
            f"got shape {list(alphas.shape)} from {type(scheduler).__name__}"
        )
    return total


def prediction_of(function: str, scheduler: Any) -> str:
    """What a network with this scheduler predicts, one of ``PREDICTIONS``.

    Raises:
        TypeError: If it is no scheduler of diffusers with ``alphas_cumprod``.
        ValueError: If its levels cannot be used.
    """
    total = check_scheduler(function, scheduler)
    kind: str = scheduler.config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"{function}: scheduler must have a prediction_type of {list(PREDICTIONS)}, got {shown(kind)}")
    signals, noises = training_levels(scheduler)
    if not bool(torch.isfinite(noises).all()) or not 0 < float(noises.min()):
        raise ValueError(
            f"{function}: scheduler must have {total} finite alphas_cumprod (num_train_timesteps) in [0, 1), got others"
        )
    if kind == "epsilon" and not 0 < float(signals.min()):
        raise ValueError(
            f"{function}: scheduler must leave some signal at every timestep where the network predicts noise "
            "(zero terminal SNR goes with v_prediction and sample), got none"
        )
    return kind


def levels_at(scheduler: Any, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise of noisy samples at timesteps ``[]`` or ``[B]``, broadcast to the samples.

    Those of the whole timestep below a fractional one.
    """
    alphas = scheduler.alphas_cumprod.to(x.device, x.dtype)
    # Not alphas[t]: indexing by a scalar tensor reads its value, which no trace can.
    power = alphas.index_select(0, t.reshape(-1).long()).reshape(-1, *[1] * (x.ndim - 1))
    return power.sqrt(), (1 - power).sqrt()


def training_levels(scheduler: Any) -> tuple[Tensor, Tensor]:
    """Signal and noise of each training timestep, ``[T]`` each, float64 on the CPU."""
    powers = scheduler.alphas_cumprod.double().cpu()
    return powers.sqrt(), (1 - powers).sqrt()
