"""How much a change of a picture means: which factors it moves, how purely, and what reads the same without meaning.

Changes are float tensors ``[n, 16]``, one column a factor in the order of ``FACTORS``, in the units of
``factor_measures.changes``.
"""

from __future__ import annotations

import torch
from avatars import FACTORS
from torch import Tensor

from factors.measures import changes
from factors.reader import FactorReader, Readings

NAMES = tuple(factor.name for factor in FACTORS)


def read_changes(reader: FactorReader, before: Tensor, after: Tensor) -> Tensor:
    """Changes ``[n, 16]`` from one picture ``[3, S, S]`` to n pictures."""
    first = reader.read(before[None])
    same = {name: value.expand(len(after), *value.shape[1:]) for name, value in first.items()}
    return as_columns(changes(same, reader.read(after)))


def as_columns(moved: Readings) -> Tensor:
    """Changes by name as ``[n, 16]``."""
    return torch.stack([moved[name] for name in NAMES], dim=1)


def scrambled(differences: Tensor, generator: torch.Generator) -> Tensor:
    """Differences of pictures ``[n, 3, S, S]`` with random phases: size, spectrum and colours stay, the shape goes.

    All channels of a difference get the same phases, those of white noise, so that the result is real.
    """
    noise = torch.randn(len(differences), 1, *differences.shape[2:], generator=generator)
    phase = torch.fft.fft2(noise)
    turned = torch.fft.fft2(differences.float()) * phase / phase.abs().clamp(min=1e-12)
    return torch.fft.ifft2(turned).real


def floor_of(meaningless: Tensor, quantile: float = 0.95) -> Tensor:
    """Size ``[16]`` of change that meaningless changes ``[n, 16]`` hardly exceed: the reader's floor."""
    return meaningless.abs().quantile(quantile, dim=0)


def purity_of(moves: Tensor) -> Tensor:
    """Share ``[n]`` of the largest change in the squares of all; 0 where nothing changes."""
    squares = moves.square()
    return squares.amax(1) / squares.sum(1).clamp(min=1e-12)


def entropy_purity(moves: Tensor) -> Tensor:
    """``1 - H / log 16`` of the shares ``[n]`` (the disentanglement score of Eastwood & Williams 2018, of one row).

    1 for one factor alone, 0 for all alike, and 0 where nothing changes.
    """
    squares = moves.square()
    total = squares.sum(1)
    shares = squares / total.clamp(min=1e-12)[:, None]
    entropy = -torch.special.xlogy(shares, shares).sum(1)
    return (1 - entropy / torch.log(torch.tensor(float(moves.shape[1])))) * (total > 1e-12)


def largest(sizes: Tensor) -> list[str]:
    """Name of the factor with the largest of ``[n, 16]`` in size; ``""`` where all are zero."""
    size, place = sizes.abs().max(1)
    return [NAMES[i] if s > 0 else "" for s, i in zip(size.tolist(), place.tolist(), strict=True)]


def antisymmetry(plus: Tensor, minus: Tensor) -> Tensor:
    """``-cos`` ``[n]`` of the differences both ways of a direction make, ``[n, ...]``: 1 if they are opposite."""
    return -torch.cosine_similarity(plus.flatten(1), minus.flatten(1), dim=1)


def shuffled(moves: Tensor, generator: torch.Generator) -> Tensor:
    """Each factor's changes dealt out anew among the edits: sizes stay, what belongs together does not."""
    return torch.stack([column[torch.randperm(len(moves), generator=generator)] for column in moves.T], dim=1)


def mixture_purity(generator: torch.Generator, n: int = 100_000) -> float:
    """Mean purity of random mixtures of all factors: changes that are normal and independent of each other."""
    return float(purity_of(torch.randn(n, len(NAMES), generator=generator)).mean())


def agreement(names: list[list[str]]) -> Tensor:
    """How often two samples give the same name to the same direction, for each sample ``[N]`` against the others.

    Args:
        names: For each of N samples the names of its directions, in order; ``""`` agrees with nothing.
    """
    rates = []
    for i, own in enumerate(names):
        others = [other for j, other in enumerate(names) if j != i]
        same = sum(a == b != "" for other in others for a, b in zip(own, other, strict=True))
        rates.append(same / max(1, len(own) * len(others)))
    return torch.tensor(rates, dtype=torch.float64)
