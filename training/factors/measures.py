"""What readings of factors say: how samples are distributed, and which factor an edit changes."""

from __future__ import annotations

import torch
from avatars import FACTORS, Factor, Factors, draw
from torch import Tensor
from torch.nn.functional import one_hot

from factors.reader import FactorReader, Readings

# Pictures that are refined together: enough to keep a core busy, few enough to stay in its cache.
REFINED = 32


def spread(factor: Factor) -> float:
    """Standard deviation of a factor among drawn avatars; of one category's indicator for categorical factors."""
    if factor.kind == "continuous":
        return (factor.high - factor.low) / 12**0.5
    p = 1 / len(factor.choices) if factor.probability is None else factor.probability
    return (p * (1 - p)) ** 0.5


def changes(before: Readings, after: Readings) -> Readings:
    """How far each factor moved between two sets of pictures, in units that compare across factors.

    Returns:
        For every factor ``[n]``: the signed difference over the factor's :func:`spread`, so that 1 is as much as two
        random avatars differ by, give or take; for categories half the summed change of their probabilities over it,
        which has no sign.
    """
    moved = {}
    for factor in FACTORS:
        difference = after[factor.name] - before[factor.name]
        moved[factor.name] = (difference.abs().sum(1) / 2 if factor.choices else difference) / spread(factor)
    return moved


def purity(moved: Readings) -> tuple[list[str], Tensor]:
    """The factor that each edit changes most, and its share ``[n]`` of the squares of all changes."""
    squares = torch.stack([moved[factor.name] ** 2 for factor in FACTORS])
    share, most = (squares / squares.sum(0).clamp(min=1e-12)).max(0)
    return [FACTORS[i].name for i in most.tolist()], share


def as_factors(readings: Readings) -> Factors:
    """The nearest factors that can be drawn."""
    factors = {}
    for factor in FACTORS:
        values = readings[factor.name]
        if factor.choices:
            factors[factor.name] = values.argmax(1)
        elif factor.kind == "binary":
            factors[factor.name] = (values > 0.5).to(values.dtype)
        else:
            factors[factor.name] = values.clamp(factor.low, factor.high)
    return factors


def as_readings(factors: Factors) -> Readings:
    """Factors in the form of readings that have no doubt."""
    return {f.name: one_hot(factors[f.name], len(f.choices)).float() if f.choices else factors[f.name] for f in FACTORS}


def refine(factors: Factors, pictures: Tensor, steps: int = 40, rate: float = 0.04) -> Factors:
    """Adjust continuous factors until they draw the pictures as well as they can; categories are left alone.

    Args:
        factors: Where to start, such as :func:`as_factors` of a reading.
        pictures: Pictures ``[n, 3, s, s]`` in [0, 1].
        steps: Updates by gradient, each on all pictures.
        rate: Length of the first updates, as a part of each factor's range; it falls to zero.
    """
    if steps < 1:
        raise ValueError(f"refine: steps must be at least 1, got {steps}")
    free = {f: factors[f.name].clone().requires_grad_() for f in FACTORS if f.kind == "continuous"}
    optimizer = torch.optim.Adam([{"params": [v], "range": f.high - f.low} for f, v in free.items()], betas=(0.8, 0.9))
    for step in range(steps):
        drawn = draw(factors | {f.name: v for f, v in free.items()}, pictures.shape[-1])
        optimizer.zero_grad()
        (drawn - pictures).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * group["range"] * (1 - step / steps)
        optimizer.step()
        with torch.no_grad():
            for f, v in free.items():
                v.clamp_(f.low, f.high)
    return factors | {f.name: v.detach() for f, v in free.items()}


def read_closely(reader: FactorReader, pictures: Tensor) -> Factors:
    """Read pictures and refine the reading: of drawings this finds the continuous factors almost exactly."""
    parts = [refine(as_factors(reader.read(part)), part) for part in pictures.split(REFINED)]
    return {factor.name: torch.cat([part[factor.name] for part in parts]) for factor in FACTORS}


def redraw(reader: FactorReader, pictures: Tensor) -> Tensor:
    """Read pictures closely and draw what was read: what still differs is not an avatar, or was misread."""
    return draw(read_closely(reader, pictures), pictures.shape[-1])


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio ``[n]`` in dB of pictures in [0, 1]."""
    return -10 * (a - b).square().flatten(1).mean(1).clamp(min=1e-12).log10()


def distances(first: Readings, second: Readings) -> dict[str, float]:
    """How differently each factor is distributed in two sets of pictures, from 0 (alike) to 1.

    The greatest gap between cumulative distributions (Kolmogorov-Smirnov) for values and binary factors, the total
    variation for categories.
    """
    found = {}
    for factor in FACTORS:
        a, b = first[factor.name], second[factor.name]
        if factor.choices:
            gap = (_shares(a) - _shares(b)).abs().sum() / 2
        elif factor.kind == "binary":
            gap = ((a > 0.5).double().mean() - (b > 0.5).double().mean()).abs()
        else:
            places = torch.cat([a, b]).sort().values
            gap = (_cumulative(a, places) - _cumulative(b, places)).abs().max()
        found[factor.name] = round(gap.item(), 4)
    return found


def _shares(probabilities: Tensor) -> Tensor:
    return probabilities.argmax(1).bincount(minlength=probabilities.shape[1]).double() / len(probabilities)


def _cumulative(values: Tensor, places: Tensor) -> Tensor:
    return torch.searchsorted(values.sort().values, places, right=True).double() / len(values)


def strongest_correlation(readings: Readings) -> tuple[str, str, float]:
    """The two factors with one number each that go together most; drawn avatars have none that do."""
    names = [factor.name for factor in FACTORS if not factor.choices]
    matrix = torch.corrcoef(torch.stack([readings[name].double() for name in names])).nan_to_num()
    matrix = matrix.triu(1)
    place = int(matrix.abs().argmax())
    i, j = divmod(place, len(names))
    return names[i], names[j], round(matrix[i, j].item(), 4)
