"""Which factor alone would change a picture like that: differences of pictures against those that factors make.

Needs no reader, but the factors of the avatar that was edited. The answers are shares of squared differences of
pixels: what no factor can do to this avatar counts against them, however it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from avatars import FACTORS, Factor, Factors, draw
from torch import Tensor

# Values of a continuous factor to try, over its whole range.
LEVELS = 9
CHUNK = 64


@dataclass(frozen=True)
class Singles:
    """What each factor alone can do to one avatar.

    Attributes:
        differences: Unit differences of pictures ``[m, 3 S S]``.
        factors: Which factor made each, ``[m]``, an index of ``FACTORS``.
    """

    differences: Tensor
    factors: Tensor


@dataclass(frozen=True)
class Match:
    """Differences of pictures, explained by factors.

    Attributes:
        shares: Part of each squared difference that each factor explains alone, ``[n, 16]``: the squared cosine with
            the best of its changes, 0 where none points the same way. They need not sum to 1.
        explained: Part that the best changes of all factors explain together, ``[n]`` (least squares).
    """

    shares: Tensor
    explained: Tensor


def _values(factor: Factor) -> Tensor:
    """Values to try."""
    if factor.kind == "continuous":
        return torch.linspace(factor.low, factor.high, LEVELS)
    return torch.arange(2 if factor.kind == "binary" else len(factor.choices))


def single_changes(factors: Factors, size: int) -> Singles:
    """Draw one avatar with each factor alone at other values, and take the difference it makes.

    Args:
        factors: Of one avatar.
        size: Side of the pictures.
    """
    tried: dict[str, list[Tensor]] = {name: [] for name in factors}
    places = []
    for i, factor in enumerate(FACTORS):
        for value in _values(factor).to(factors[factor.name].dtype):
            for name, own in factors.items():
                tried[name].append(value[None] if name == factor.name else own)
            places.append(i)
    every = {name: torch.cat(values) for name, values in tried.items()}
    parts = [draw({k: v[i : i + CHUNK] for k, v in every.items()}, size) for i in range(0, len(places), CHUNK)]
    differences = (torch.cat(parts) - draw(factors, size)).flatten(1)
    lengths = differences.norm(dim=1)
    # Its own value makes no difference.
    made = lengths > 1e-3
    return Singles(differences[made] / lengths[made, None], torch.tensor(places)[made])


def match(differences: Tensor, singles: Singles) -> Match:
    """Explain differences of pictures ``[n, 3, S, S]`` by changes of single factors, as large as fits best."""
    rows = differences.flatten(1).float()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosines = rows @ singles.differences.T
    others = singles.factors != torch.arange(len(FACTORS))[:, None]
    best, places = cosines[:, None].masked_fill(others, -1.0).max(2)
    together = torch.stack([_fitted(row, singles.differences[place]) for row, place in zip(rows, places, strict=True)])
    return Match(best.clamp(min=0).square(), together)


def best_in_span(differences: Tensor, singles: Singles) -> Tensor:
    """How nearly a mixture of differences ``[k, 3, S, S]`` makes the change of each factor alone ``[16]``.

    The largest squared cosine of any change of the factor with the span of the differences. To first order a mixture of
    directions makes the mixture of their differences, so this is what the best direction of their span could do.
    """
    span = torch.linalg.qr(differences.flatten(1).double().T)[0]
    parts = (singles.differences.double() @ span).square().sum(1)
    others = singles.factors != torch.arange(len(FACTORS))[:, None]
    return parts.masked_fill(others, 0.0).amax(1)


def _fitted(row: Tensor, columns: Tensor) -> Tensor:
    """Part of a unit row ``[p]`` in the span of rows ``[q, p]``, some of which may be alike."""
    columns = columns.double()
    values, vectors = torch.linalg.eigh(columns @ columns.T)
    kept = values > 1e-6 * values.max()
    coordinates = (row.double() @ columns.T) @ vectors[:, kept]
    return (coordinates.square() / values[kept]).sum().clamp(max=1).to(row)
