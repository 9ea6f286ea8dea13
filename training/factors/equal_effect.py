"""Edits that change their pictures by equal amounts, however far the noisy sample has to go for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import latentjac
from latentjac.editing.methods import ConstantGain

# From rows [n, C, H, W] and amounts [n] to pictures [n, 3, H, W].
Move = Callable[[Tensor, Tensor], Tensor]

# An amount grows at most so much from one try to the next: effects are only roughly proportional to amounts.
_LARGEST_GROWTH = 6.0


@dataclass(frozen=True)
class Edits:
    """Edits of one sample.

    Attributes:
        pictures: In [0, 1], ``[n, 3, H, W]``.
        amounts: How far each went, in the units of the move, ``[n]``.
        effects: Root mean square change of the picture, ``[n]``.
    """

    pictures: Tensor
    amounts: Tensor
    effects: Tensor


def rms(pictures: Tensor, reference: Tensor) -> Tensor:
    """Root mean square difference ``[n]`` of pictures ``[n, 3, H, W]`` and one or n references."""
    return (pictures - reference).square().flatten(1).mean(1).sqrt()


def linear_move(model: latentjac.Model, point: latentjac.Point) -> Move:
    """``x + d sigma v`` for unit v, then deterministic DDIM; the amount d is the distance of docs/editing.md."""

    def move(rows: Tensor, amounts: Tensor) -> Tensor:
        x = point.sample + point.noise * _column(amounts) * unit(rows)
        return latentjac.sample(model, replace(point, sample=x.to(point.sample)), output_type="pt")

    return move


def guided_move(model: latentjac.Model, point: latentjac.Point, num_steps: int) -> Move:
    """The paper's edit: ``x <- x + g [eps(x + v) - eps(x)]`` with unit v and constant g, the amount, then DDIM.

    As ``latentjac.papers.park2023.Walk`` steps, each direction with a gain of its own; the paper's g is 0.1.
    """

    def move(rows: Tensor, amounts: Tensor) -> Tensor:
        v = unit(rows)
        x = point.sample.expand(len(v), *point.sample.shape[1:])
        guidance = ConstantGain(model, point, v, _column(amounts).to(x))
        for number in range(num_steps):
            x = x + guidance.step(number, x)
        return latentjac.sample(model, replace(point, sample=x), output_type="pt")

    return move


def unit(rows: Tensor) -> Tensor:
    """Rows ``[n, ...]`` of length 1."""
    return rows / _column(rows.flatten(1).norm(dim=1))


def both_ways(directions: Tensor) -> Tensor:
    """Directions ``[q, ...]`` and, after them, their opposites."""
    return torch.cat([directions, -directions])


def at_effect(
    move: Move, rows: Tensor, reference: Tensor, start: float, target: float, tolerance: float = 0.2, tries: int = 3
) -> tuple[Edits, Edits]:
    """Edit by one amount, and by amounts of one effect.

    Amounts are corrected in proportion to the effects they had; those that are near enough are left alone.

    Args:
        move: Makes pictures.
        rows: Signed directions ``[n, C, H, W]``.
        reference: The picture of no move, ``[3, H, W]``.
        start: First amount of all.
        target: Root mean square change of the picture to reach.
        tolerance: Relative distance of an effect from the target that is near enough.
        tries: Most edits of each direction.

    Returns:
        All edits by the start amount, and for each direction the edit whose effect came nearest to the target.
    """
    amounts = torch.full((len(rows),), float(start))
    pictures = move(rows, amounts)
    first = best = Edits(pictures, amounts, rms(pictures, reference))
    tried = best
    for _ in range(tries - 1):
        growth = (target / tried.effects.clamp(min=1e-9)).clamp(1 / _LARGEST_GROWTH, _LARGEST_GROWTH)
        off = (best.effects / target - 1).abs() > tolerance
        if not off.any():
            break
        amounts = tried.amounts * torch.where(off, growth.to(tried.amounts), 1.0)
        pictures, effects = tried.pictures.clone(), tried.effects.clone()
        pictures[off] = move(rows[off], amounts[off])
        effects[off] = rms(pictures[off], reference)
        tried = Edits(pictures, amounts, effects)
        best = _nearer(best, tried, target)
    return first, best


def _nearer(a: Edits, b: Edits, target: float) -> Edits:
    """Of each edit the one of the two whose effect is nearer to the target, in proportion."""
    gaps = [(x.effects.clamp(min=1e-9) / target).log().abs() for x in (a, b)]
    take = gaps[1] < gaps[0]
    return Edits(
        torch.where(_column(take), b.pictures, a.pictures),
        torch.where(take, b.amounts, a.amounts),
        torch.where(take, b.effects, a.effects),
    )


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
