"""What a network predicts, as the clean sample and the noise in a noisy one ``x = signal x0 + noise eps``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

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
    # eps - x0, the velocity of flow matching (Lipman et al. 2023), where a + s = 1.
    "flow_prediction": lambda out, x, a, s: Prediction(x - s * out, x + a * out),
    # The score -eps / s (Song et al. 2021); s^2 alone would overflow in half precision.
    "score": lambda out, x, a, s: Prediction((x + s * (s * out)) / a, -s * out),
}
# Those that diffusers names in configurations.
PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")


def predicted(kind: str, out: Tensor, x: Tensor, signal: Tensor, noise: Tensor) -> Prediction:
    """Clean sample and noise from what a network returns.

    Where a level has no signal (or no noise) only the one of the two that follows without a division is finite.

    Args:
        kind: One of ``PREDICTIONS``, diffusers' ``prediction_type``, or ``"score"``.
        out: The network's output, ``[B, C, H, W]``.
        x: The noisy sample it got.
        signal: Factor of the clean sample in it, broadcast to x.
        noise: Standard deviation of the noise in it, broadcast to x.
    """
    return _CONVERSIONS[kind](out, x, signal, noise)
