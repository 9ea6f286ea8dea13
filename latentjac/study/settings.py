"""How large a study is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What every study is told; the defaults take some minutes a study on one core with the built-in model.

    Attributes:
        samples: Generated samples, which the intervals are over; at least 2.
        levels: Noise levels, fractions of T in [0, 1], at least 2; kept from the noisiest to the cleanest.
        k: Directions of a local basis.
        tol: Largest relative residual of a singular triplet.
        seed: Of the samples' noise and of all other random choices.
        steps: DDIM steps of the grid that the levels lie on.
        prompts: Texts that the study ``prompts`` compares, at least 3.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If a value is out of range.
    """

    samples: int = 8
    levels: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    k: int = 8
    tol: float = 1e-2
    seed: int = 0
    steps: int = 50
    prompts: tuple[str, ...] = (
        "a mountain lake at dawn",
        "a bowl of fruit on a table",
        "a portrait of an old man",
        "a city street at night",
        "a dog running on a beach",
    )

    def __post_init__(self) -> None:
        from latentjac.arguments import check_int, check_number  # with torch, which reading the defaults does not need

        for name, least in (("samples", 2), ("k", 1), ("seed", 0), ("steps", 1)):
            check_int("Settings", name, getattr(self, name), least)
        check_number("Settings", "tol", self.tol, 0, 1)
        object.__setattr__(self, "levels", _checked_levels(self.levels))
        object.__setattr__(self, "prompts", _checked_prompts(self.prompts))

    @classmethod
    def small(cls) -> Settings:
        """The smallest that shows something: seconds a study, for trying out and for tests."""
        return cls(samples=3, levels=(0.9, 0.5, 0.1), k=3, steps=10, prompts=cls.prompts[:3])


def check_samples(study: str, settings: Settings, least: int) -> None:
    """Raise unless there are as many samples as a study needs; one that leaves samples out needs more than others."""
    if settings.samples < least:
        raise ValueError(f"{study}: settings.samples must be at least {least}, got {settings.samples}")


def _checked_levels(levels: Any) -> tuple[float, ...]:
    if not isinstance(levels, (tuple, list)):
        raise TypeError(f"Settings: levels must be a tuple of fractions of T, got {type(levels).__name__}")
    for t in levels:
        if isinstance(t, bool) or not isinstance(t, (int, float)) or not (math.isfinite(t) and 0 <= t <= 1):
            raise ValueError(f"Settings: levels must hold fractions of T in [0, 1], got {t!r}")
    if len(set(levels)) < max(2, len(levels)):
        raise ValueError(f"Settings: levels must hold at least 2 different ones, each once, got {list(levels)}")
    return tuple(sorted(map(float, levels), reverse=True))


def _checked_prompts(prompts: Any) -> tuple[str, ...]:
    if not isinstance(prompts, (tuple, list)):
        raise TypeError(f"Settings: prompts must be a tuple of texts, got {type(prompts).__name__}")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise TypeError(f"Settings: prompts must hold texts, got {prompt!r}")
    if len(set(prompts)) < max(3, len(prompts)):
        raise ValueError(f"Settings: prompts must hold at least 3 different texts, each once, got {list(prompts)}")
    return tuple(prompts)
