"""Effective ranks against the full spectrum."""

from __future__ import annotations

import pytest
import torch
from networks import rand
from solvers.matrices import SPECTRA, MatrixOperator, with_spectrum

import latentjac
from latentjac.solvers import Krylov, effective_rank, svd


def truth(s: torch.Tensor, threshold: float) -> dict[str, float]:
    p = s.square() / s.square().sum()
    return {
        "energy": float(s.square().sum()),
        "energy2": float(s.pow(4).sum()),
        "participation": float(s.square().sum().square() / s.pow(4).sum()),
        "stable": float(s.square().sum() / s[0].square()),
        "entropy": float(torch.exp(-torch.special.xlogy(p, p).sum())),
        "numerical": float((s > threshold * s[0]).sum()),
    }


@pytest.mark.parametrize("name", ["power law", "exponential", "flat", "step", "rank 3"])
def test_intervals_hold_the_truth(name: str) -> None:
    operator, threshold = with_spectrum(SPECTRA[name], 240, 230), 0.25
    exact = truth(SPECTRA[name], threshold)
    inside = dict.fromkeys(exact, 0)
    for seed in range(12):
        rank = effective_rank(operator, 3, threshold=threshold, generator=torch.Generator().manual_seed(seed))
        for quantity, value in exact.items():
            slack = 1e-9 * value
            estimate = getattr(rank, quantity)
            inside[quantity] += estimate.low - slack <= value <= estimate.high + slack
    # 95 % intervals: fewer than 9 of 12 would happen once in three thousand times.
    assert min(inside.values()) >= 9, inside


def test_intervals_are_narrow_and_shrink() -> None:
    operator = with_spectrum(SPECTRA["power law"])

    def width(probes: int) -> float:
        rank = effective_rank(operator, 8, probes=probes, steps=6)
        return (rank.participation.high - rank.participation.low) / rank.participation.value

    assert width(16) < 0.3
    assert width(64) < 0.7 * width(16)


def test_splitting_off_the_top_narrows_the_energy() -> None:
    operator = with_spectrum(1.0 / torch.arange(1, 201).double())
    wide, narrow = (effective_rank(operator, k, steps=2).energy for k in (1, 20))
    assert narrow.high - narrow.low < 0.3 * (wide.high - wide.low)


def test_counts_follow_the_spectrum() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    rank = effective_rank(operator, 4, steps=30)
    for s in (0.9, 0.3, 0.15, 0.08):
        count = rank.count_above(s)
        assert float((SPECTRA["power law"] > s).sum()) in count
        assert count.high - count.low < 100
    with pytest.raises(ValueError, match=r"s must be .*got 0"):
        rank.count_above(0)


@pytest.mark.parametrize("name", ["power law", "exponential", "flat", "step", "rank 3"])
@pytest.mark.parametrize("part", [0.5, 0.9, 0.99**2])
def test_the_count_that_holds_a_part_of_the_energy(name: str, part: float) -> None:
    energy = SPECTRA[name].square().cumsum(0)
    exact = int((energy < part * energy[-1]).sum()) + 1
    counts = [
        effective_rank(
            with_spectrum(SPECTRA[name]), 3, steps=24, generator=torch.Generator().manual_seed(seed)
        ).count_holding(part)
        for seed in range(6)
    ]
    assert sum(exact in count for count in counts) >= 4, (exact, counts)
    mean = sum(count.value for count in counts) / len(counts)
    # A count is rounded up, so half of one is no surprise.
    assert abs(mean - 0.5 - exact) <= max(1.0, 0.1 * exact), (exact, mean)


@pytest.mark.parametrize("name", ["power law", "exponential", "step"])
def test_few_steps_make_the_interval_wide_and_not_wrong(name: str) -> None:
    energy = SPECTRA[name].square().cumsum(0)
    exact = int((energy < 0.99**2 * energy[-1]).sum()) + 1
    few, many = (effective_rank(with_spectrum(SPECTRA[name]), 3, steps=steps) for steps in (3, 30))
    few, many = few.count_holding(0.99**2), many.count_holding(0.99**2)
    assert exact in few
    assert exact in many
    assert few.high - few.low > many.high - many.low


def test_a_count_that_the_known_values_decide_is_exact() -> None:
    operator = with_spectrum(torch.tensor([4.0, 3.0, 2.0, 1.0]))  # energies 16, 9, 4, 1 of 30
    rank = effective_rank(operator, 4, probes=2, steps=2)
    assert [rank.count_holding(part).value for part in (0.5, 0.6, 25 / 30 - 1e-9, 0.84, 0.999)] == [1, 2, 2, 3, 4]
    for part in (0, 1, "all"):
        with pytest.raises((TypeError, ValueError), match="part must be a number"):
            rank.count_holding(part)


def test_probes_do_not_repeat_the_start_block_of_the_basis() -> None:
    """Both have default seeds; with the same one the probes would be deflated away, and their energy with them."""
    operator = with_spectrum(SPECTRA["flat"])
    rank = effective_rank(operator, basis=svd(operator, k=8, solver=Krylov(block_size=8)))
    assert rank.energy.value == pytest.approx(float(operator.matrix.square().sum()), rel=0.1)


def test_a_basis_at_hand_is_used() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    basis = svd(operator, k=5)
    operator.vectors.clear()
    rank = effective_rank(operator, basis=basis, probes=4, steps=3)
    assert sum(operator.vectors) == rank.jvps + rank.vjps == 4 * (3 + 2)
    energy = SPECTRA["power law"].square()
    assert float(energy[:5].sum() / energy.sum()) in rank.cumulative[4]
    assert len(rank.cumulative) == 5
    assert "participation ratio" in str(rank)


LIN = MatrixOperator(torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"operator": 3}, TypeError, "operator must have x, y, jvp and vjp, got int"),
        ({"operator": MatrixOperator(torch.ones(2, 3, 3))}, ValueError, "one point, got 2"),
        ({"operator": MatrixOperator(torch.zeros(3, 3))}, ValueError, "operator must not be zero"),
        ({"probes": 1}, ValueError, "probes must be at least 2, got 1"),
        ({"steps": 2.0}, TypeError, "steps must be an int, got float"),
        ({"threshold": 0}, ValueError, r"threshold must be a number in \(0, 1\), got 0"),
        ({"confidence": 95}, ValueError, r"confidence must be a number in \(0, 1\), got 95"),
        ({"basis": torch.ones(1, 4)}, TypeError, "basis must be a LocalBasis or None, got Tensor"),
        ({"basis": svd(with_spectrum(SPECTRA["rank 3"]), k=1)}, ValueError, r"shape \[4\], got \[260\]"),
        ({"generator": 1}, TypeError, "generator must be a torch.Generator or None, got int"),
        ({"k": 9}, ValueError, r"k must be in .*\[1, 4\], got 9"),
    ],
)
def test_refusals(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        latentjac.effective_rank(**{"operator": LIN, "k": 1, **arguments})


def test_all_values_split_off_leave_nothing_to_estimate() -> None:
    matrix = rand(9, 6)
    rank = effective_rank(MatrixOperator(matrix), 6)
    exact = torch.linalg.svdvals(matrix).square()
    for estimate, value in ((rank.energy, exact.sum()), (rank.energy2, exact.square().sum())):
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx([float(value)] * 3, rel=1e-4)
    assert rank.participation.value == pytest.approx(float(exact.sum() ** 2 / exact.square().sum()), rel=1e-4)
