"""Settings under which latentjac computes what the published code of Park et al. (NeurIPS 2023) computes.

The preset is one object that each layer takes its part of: ``local_basis`` the iteration, ``edit`` the guidance; its
noise levels are those of :func:`latentjac.diffusion.park2023_schedule`. docs/pullback.md lists what it reproduces and
what it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentjac.arguments import check_choice, check_left

# At least 12 iterations of two passes, at most 50.
_LIMITS = {"tol": 1e-4, "max_passes": 100}
_SUBSPACE = {"stop": "paper", "vectors": "paper"}


@dataclass(frozen=True)
class Preset:
    """What the published code has fixed.

    Attributes:
        limits: Arguments of :func:`latentjac.svd`: when its solver stops.
        subspace: Options of that solver, :class:`latentjac.solvers.Subspace`.
        probe: Length of the probe of guidance, in units of the sample.
        noisy_below: Fraction of T from which unconditional networks take stochastic steps on the way to the image.
        frames: Into how many parts the frames divide a walk.
    """

    limits: Mapping[str, Any] = field(default_factory=lambda: dict(_LIMITS))
    subspace: Mapping[str, str] = field(default_factory=lambda: dict(_SUBSPACE))
    probe: float = 1.0
    noisy_below: float = 0.2
    frames: int = 4

    def gain(self, text: bool) -> float:
        """Gain of guidance in its scripts, for networks with and without text."""
        return 1.0 if text else 0.1


_PRESETS = {"pullback": Preset()}


def find_preset(function: str, compat: object, options: Mapping[str, tuple[Any, Any]]) -> Preset | None:
    """The preset of a name, None for None.

    Args:
        function: Function that was called, for messages.
        compat: What it got.
        options: Options the preset leaves no choice of, each with what it got and its default.

    Raises:
        TypeError: If it is not a name.
        ValueError: If there is no such preset, or one of the options is not its default.
    """
    name = check_choice(function, "compat", compat, list(_PRESETS), optional=True)
    if name is None:
        return None
    for option, (value, default) in options.items():
        check_left(function, option, value, default, f"with compat={name!r}")
    return _PRESETS[name]
