"""Assignments against SciPy's, and means of shuffled directions."""

from __future__ import annotations

import pytest
import torch
from geometry.subspaces import orthonormal
from networks import rand

from latentjac.geometry import assign, matched_mean


@pytest.mark.parametrize("k", [1, 2, 3, 7, 20, 64])
def test_assignments_cost_as_little_as_scipys(k: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    for seed in range(5):
        cost = rand(k, k, seed=seed)
        found = assign(cost)
        rows, columns = optimize.linear_sum_assignment(cost.numpy())
        assert sorted(found.tolist()) == list(range(k))
        assert float(cost[range(k), found].sum()) == pytest.approx(cost.numpy()[rows, columns].sum())


def test_assignments_with_ties() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    cost = rand(12, 12).round()
    rows, columns = optimize.linear_sum_assignment(cost.numpy())
    assert float(cost[range(12), assign(cost)].sum()) == cost.numpy()[rows, columns].sum()
    assert sorted(assign(torch.zeros(5, 5)).tolist()) == list(range(5))


def test_the_greedy_choice_is_not_the_best() -> None:
    cost = -torch.tensor([[0.9, 0.8], [0.8, 0.1]])
    assert assign(cost).tolist() == [1, 0]


def test_shuffled_signed_and_noisy_directions_come_back() -> None:
    generator = torch.Generator().manual_seed(2)
    common = orthonormal(5, 40, 1)
    samples, orders, signs = [], [], []
    for i in range(12):
        order = torch.arange(5) if i == 0 else torch.randperm(5, generator=generator)
        sign = torch.ones(5).double() if i == 0 else torch.randint(2, (5,), generator=generator).double() * 2 - 1
        noisy = sign[:, None] * common[order] + 0.05 * rand(5, 40, seed=10 + i)
        u, _, v = torch.linalg.svd(noisy, full_matrices=False)
        samples.append(u @ v)  # the nearest orthonormal rows
        orders.append(order.argsort())
        signs.append(sign[order.argsort()])
    found = matched_mean(torch.stack(samples))
    assert torch.equal(found.order, torch.stack(orders))
    assert torch.equal(found.signs, torch.stack(signs))
    cosines = (found.rows * common).sum(1)
    assert float(cosines.min()) > 0.99
    torch.testing.assert_close(found.rows.norm(dim=1), torch.ones(5).double())
    chosen = torch.stack([s[o] * g[:, None] for s, o, g in zip(samples, orders, signs, strict=True)])
    torch.testing.assert_close(found.cosines, (chosen * found.rows).sum(2))
