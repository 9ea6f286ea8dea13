"""Directions of many samples matched one to one, and their means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latentjac.arguments import check_tensor
from latentjac.geometry.rows import stack_tangent_rows
from latentjac.public import public
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis

_MOST_ROUNDS = 20


@dataclass(frozen=True, repr=False)
class MatchedMean(Shaped):
    """Means of matched unit directions.

    Attributes:
        rows: Unit means, float64 ``[k, n]``, in the order of the first sample's directions.
        order: ``order[i, j]`` is the direction of sample i that was matched to mean j, ``[N, k]``.
        signs: Its sign, ``[N, k]``.
        cosines: Cosine of each matched and signed direction with its mean, ``[N, k]``.
    """

    rows: torch.Tensor
    order: torch.Tensor
    signs: torch.Tensor
    cosines: torch.Tensor


@public
def matched_mean(bases: Sequence[Any] | LocalBasis | torch.Tensor, space: str = "h") -> MatchedMean:
    """Match the directions of all samples by ``|cosine|`` and average them with their signs.

    The first sample is the reference at first, then the means are, until the matching stays (or 20 rounds are over):
    the result depends on the first sample by the order of the means and little else.

    Args:
        bases: A basis of N points, a sequence of N bases, or orthonormal rows ``[N, k, n]``.
        space: ``"h"`` for u or ``"x"`` for v.

    Raises:
        TypeError: If bases are something else.
        ValueError: If there are fewer than 2 samples, or they do not agree in size.
    """
    samples = stack_tangent_rows("matched_mean", bases, space)
    means, before = samples[0], None
    for _ in range(_MOST_ROUNDS):
        cosines = samples @ means.mT  # [N, k of the sample, k of the means]
        order = torch.stack([assign(-table.abs().mT) for table in cosines])
        matched = cosines.gather(1, order[:, None])[:, 0]
        signs = torch.where(matched < 0, -1.0, 1.0).to(samples)
        chosen = samples.gather(1, order[:, :, None].expand_as(samples)) * signs[:, :, None]
        total = chosen.mean(0)
        means = total / total.norm(dim=1, keepdim=True)
        now = order * signs.long()
        if before is not None and torch.equal(now, before):
            break
        before = now
    return MatchedMean(means, order, signs, (chosen * means).sum(2))


@public
def assign(cost: torch.Tensor) -> torch.Tensor:
    """Column for every row of a square cost matrix such that the sum of costs is least.

    Shortest augmenting paths with dual prices (Kuhn 1955; Jonker & Volgenant 1987): one row after another is brought
    in, on the path that costs least at the prices so far. O(k^3).

    Args:
        cost: ``[k, k]``.

    Returns:
        int64 ``[k]``, on the device of cost.

    Raises:
        TypeError: If cost is not a tensor.
        ValueError: If it is not a square matrix of finite values.
    """
    cost = check_tensor("assign", "cost", cost)
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1] or cost.numel() == 0:
        raise ValueError(f"assign: cost must have shape [k, k], got {list(cost.shape)}")
    table = cost.double().cpu().numpy()
    k = len(table)
    row_price, column_price = np.zeros(k), np.zeros(k)
    owner = np.full(k, -1)  # row that has each column
    for new in range(k):
        distance, previous = np.full(k, np.inf), np.full(k, -1)
        done = np.zeros(k, dtype=bool)
        row, column, reached = new, -1, 0.0
        while row >= 0:  # until a column without an owner is the nearest
            through = reached + table[row] - row_price[row] - column_price
            better = ~done & (through < distance)
            distance[better], previous[better] = through[better], column
            column = int(np.where(done, np.inf, distance).argmin())
            reached, done[column] = distance[column], True
            row = owner[column]
        row_price[new] += reached
        inside = done & (owner >= 0)
        row_price[owner[inside]] += reached - distance[inside]
        column_price[done] += distance[done] - reached
        while column >= 0:  # hand the columns on along the path
            before = previous[column]
            owner[column] = owner[before] if before >= 0 else new
            column = before
    columns = np.empty(k, dtype=np.int64)
    columns[owner] = np.arange(k)
    return torch.from_numpy(columns).to(cost.device)
