"""What may vary in an avatar: names, ranges, and draws from their distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

HAIR_STYLES = ("buzz", "side part", "bob", "long", "curls", "bun", "spikes", "pigtails")

Factors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Factor:
    """One thing that may vary.

    Attributes:
        name: Key of the factor.
        meaning: What its low and its high values look like.
        low: Smallest value; 0 for binary and categorical factors.
        high: Largest value.
        choices: Names of the categories, for a categorical factor.
        probability: How often a binary factor is 1.
    """

    name: str
    meaning: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()
    probability: float | None = None

    @property
    def kind(self) -> str:
        """``"continuous"``, ``"binary"`` or ``"categorical"``."""
        if self.choices:
            return "categorical"
        return "continuous" if self.probability is None else "binary"


# Drawn independently of each other, so that two of them changing together is never the data's doing.
FACTORS = (
    Factor("background", "colour behind the head, along a ramp from peach over blue and mint to butter"),
    Factor("shirt", "colour of the shirt, along a ramp from red over green and blue to charcoal"),
    Factor("skin", "colour of the skin, from light to deep"),
    Factor("face", "narrow to broad jaw"),
    Factor("turn", "the head looks to the left or the right of the picture", low=-1.0),
    Factor("tilt", "the head leans to the left or the right of the picture", low=-1.0),
    Factor("hair_style", "cut of the hair", high=len(HAIR_STYLES) - 1, choices=HAIR_STYLES),
    Factor("hair_color", "colour of hair, brows and beard: black over brown, copper, blond and rose to blue"),
    Factor("beard", "a full beard", probability=0.25),
    Factor("brows", "worried (inner ends up) to stern (inner ends down)", low=-1.0),
    Factor("eye_size", "small to large eyes"),
    Factor("eye_open", "nearly closed to wide open eyes"),
    Factor("eye_color", "colour of the irises, from brown over green to blue"),
    Factor("glasses", "round glasses", probability=0.4),
    Factor("mouth_curve", "sad to smiling", low=-1.0),
    Factor("mouth_open", "closed to open mouth"),
)
BY_NAME = {factor.name: factor for factor in FACTORS}


def sample_factors(generator: torch.Generator, n: int) -> Factors:
    """Draw factors independently: continuous ones and categories uniformly, binary ones with their probability.

    Args:
        generator: Source of the draws, on the CPU.
        n: How many avatars.

    Returns:
        For every name of ``FACTORS`` a tensor ``[n]``: float32, or int64 for categories.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If n is not positive.
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"sample_factors: generator must be a torch.Generator, got {type(generator).__name__}")
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"sample_factors: n must be an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"sample_factors: n must be at least 1, got {n}")
    drawn = {}
    for factor in FACTORS:
        u = torch.rand(n, generator=generator)
        if factor.kind == "continuous":
            drawn[factor.name] = factor.low + (factor.high - factor.low) * u
        elif factor.probability is not None:
            drawn[factor.name] = (u < factor.probability).float()
        else:
            drawn[factor.name] = (u * len(factor.choices)).long().clamp_(max=len(factor.choices) - 1)
    return drawn


def check_factors(name: str, factors: Mapping[str, torch.Tensor]) -> None:
    """Raise unless factors hold exactly one value in range per factor and avatar.

    Raises:
        TypeError: If factors are not a mapping of tensors.
        ValueError: If a factor is missing, unknown, out of range or of another length than the first.
    """
    if not isinstance(factors, Mapping):
        raise TypeError(f"{name}: factors must be a mapping from names to tensors, got {type(factors).__name__}")
    if set(factors) != set(BY_NAME):
        wrong = sorted(set(factors) ^ set(BY_NAME))
        raise ValueError(f"{name}: factors must have the keys {list(BY_NAME)}, got a missing or unknown {wrong[0]!r}")
    shape = None
    for factor in FACTORS:
        values = factors[factor.name]
        if not isinstance(values, torch.Tensor):
            raise TypeError(f"{name}: factors[{factor.name!r}] must be a tensor, got {type(values).__name__}")
        shape = values.shape if shape is None else shape
        if values.ndim != 1 or not len(values) or values.shape != shape:
            expected = list(shape) if len(shape) == 1 and shape[0] else "[n], n at least 1,"
            got = list(values.shape)
            raise ValueError(
                f"{name}: factors[{factor.name!r}] must have the shape {expected} of all factors, got {got}"
            )
        _check_range(name, factor, values.detach())


def _check_range(name: str, factor: Factor, values: torch.Tensor) -> None:
    inside = (values >= factor.low) & (values <= factor.high)
    expected = f"be in [{factor.low:g}, {factor.high:g}]"
    if factor.kind != "continuous":
        inside &= values == values.round()
        expected = f"be a whole number in [{factor.low:g}, {factor.high:g}]"
    if not bool(inside.all()):
        raise ValueError(f"{name}: factors[{factor.name!r}] must {expected}, got {values[~inside][0].item():g}")
