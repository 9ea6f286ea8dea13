"""Geodesics and means on the Grassmannian, where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.subspaces import basis_of, largest_angle, orthonormal, pair_with_angles
from networks import rand

import latentjac
from latentjac.geometry import frechet, frechet_mean, grassmann_exp, grassmann_log


def tangents(p: torch.Tensor, count: int, length: float, seed: int = 7) -> torch.Tensor:
    """Random tangents at p of one length, ``[count, k, n]``."""
    rows = rand(count, *p.shape, seed=seed)
    rows = rows - (rows @ p.T) @ p
    return length * rows / rows.flatten(1).norm(dim=1)[:, None, None]


@pytest.mark.parametrize("angles", [[1e-9, 1e-4, 0.5], [0.0, 1.2, 1.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], ids=str)
def test_log_and_exp_undo_each_other(angles: list[float]) -> None:
    p, q = pair_with_angles(angles)
    log = grassmann_log(p, q)
    assert float(log.norm()) == pytest.approx(
        torch.tensor(angles, dtype=torch.float64).norm().item(), rel=1e-12, abs=3e-15
    )
    assert float((log @ p.T).abs().max()) < 1e-14
    end = grassmann_exp(p, log)
    assert float((end @ end.T - torch.eye(3)).abs().max()) < 1e-14
    assert largest_angle(end, q) < 1e-14
    assert largest_angle(grassmann_exp(p, 0 * log), p) < 1e-14


def test_rows_go_along_without_turning() -> None:
    """To first order the rows move by the tangent: not their span alone."""
    p = orthonormal(3, 10, 5)
    step = tangents(p, 1, 1e-5)[0]
    torch.testing.assert_close(grassmann_exp(p, step), p + step, rtol=0, atol=2e-10)


def test_geodesics_have_constant_speed() -> None:
    p, q = pair_with_angles([0.3, 0.8])
    log = grassmann_log(p, q)
    quarter = grassmann_exp(p, log / 4)
    torch.testing.assert_close(
        latentjac.geometry.principal_angles(p, quarter), torch.tensor([0.075, 0.2], dtype=torch.float64)
    )
    torch.testing.assert_close(
        latentjac.geometry.principal_angles(quarter, q), torch.tensor([0.225, 0.6], dtype=torch.float64)
    )


def test_many_at_once() -> None:
    p, q = (torch.stack([orthonormal(2, 6, s) for s in seeds]) for seeds in ((1, 2, 3), (4, 5, 6)))
    log = grassmann_log(p, q)
    for i in range(3):
        torch.testing.assert_close(log[i], grassmann_log(p[i], q[i]), rtol=0, atol=1e-13)
        assert largest_angle(grassmann_exp(p, log)[i], q[i]) < 1e-13


def test_the_mean_of_two_is_half_way() -> None:
    p, q = pair_with_angles([0.1, 0.7, 1.3])
    mean = latentjac.geometry.frechet_mean(torch.stack([p, q]))
    assert mean.converged
    assert largest_angle(mean.rows, grassmann_exp(p, grassmann_log(p, q) / 2)) < 1e-8
    half = math.sqrt(0.1**2 + 0.7**2 + 1.3**2) / 2
    assert mean.distances.tolist() == pytest.approx([half, half], rel=1e-8)


def test_the_mean_of_a_symmetric_set_is_its_centre() -> None:
    p = orthonormal(4, 25, 3)
    steps = tangents(p, 5, 0.6)
    ends = torch.cat([grassmann_exp(p, steps), grassmann_exp(p, -steps)])
    turned = torch.stack([orthonormal(4, 4, 20 + i) @ end for i, end in enumerate(ends)])  # other bases of the same
    mean = frechet_mean(turned)
    assert largest_angle(mean.rows, p) < 1e-8
    torch.testing.assert_close(mean.distances, torch.full((10,), 0.6, dtype=torch.float64), rtol=1e-8, atol=0)
    assert mean.gradient < 1e-9
    spread = mean.spread()
    assert (float(spread.value), spread.n) == (pytest.approx(0.6), 10)


def test_it_is_not_the_mean_of_projectors_and_no_neighbour_is_better() -> None:
    p = orthonormal(2, 9, 3)
    ends = grassmann_exp(p, tangents(p, 5, 0.8))
    mean = frechet_mean(ends)
    projectors = torch.linalg.eigh((ends.mT @ ends).mean(0))[1][:, -2:].T
    assert largest_angle(mean.rows, projectors) > 1e-4

    def spread(rows: torch.Tensor) -> float:
        return sum(float(grassmann_log(rows, end).square().sum()) for end in ends)

    least = spread(mean.rows)
    assert least < spread(projectors)
    for step in tangents(mean.rows, 20, 1e-3, seed=8):
        assert spread(grassmann_exp(mean.rows, step)) > least


def test_a_turned_world_has_a_turned_mean() -> None:
    bases = [basis_of(rand(8, 9, seed=1) + 0.3 * rand(8, 9, seed=seed), k=3) for seed in range(2, 7)]
    turn = orthonormal(8, 8, 11)
    turned = torch.stack([basis.u @ turn for basis in bases])
    mean, other = frechet_mean(bases, "h"), frechet_mean(turned)
    assert largest_angle(mean.rows @ turn, other.rows) < 1e-8
    assert frechet_mean(bases, "x").rows.shape == (3, 9)


def test_it_says_when_it_has_not_converged() -> None:
    p = orthonormal(2, 9, 3)
    ends = grassmann_exp(p, tangents(p, 5, 0.8))
    with pytest.warns(UserWarning, match="not converged after 1 iterations: mean tangent"):
        mean = frechet_mean(ends, max_iterations=1)
    assert (mean.converged, mean.iterations) == (False, 1)
    expected = grassmann_log(mean.rows.expand(5, 2, 9), ends).mean(0).norm()
    assert mean.gradient == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.filterwarnings("ignore:frechet_mean")
def test_steps_that_overshoot_are_halved(monkeypatch) -> None:
    """Steps of 6 would be thrown about; the sum of squares never gets above that of the start."""
    p = orthonormal(2, 9, 3)
    ends = grassmann_exp(p, tangents(p, 5, 0.8))
    least = frechet_mean(ends).distances.square().sum()
    monkeypatch.setattr(frechet, "_next_step", lambda *_: 6.0)
    assert float(frechet_mean(ends, max_iterations=40).distances.square().sum() / least) < 1.01


def test_samples_far_apart_take_few_steps() -> None:
    """Steps of length 1 take 76 here."""
    samples = torch.linalg.qr(rand(1, 40, 6, seed=1) + 1.5 * rand(12, 40, 6, seed=2))[0].mT
    mean = frechet_mean(samples)
    assert mean.converged
    assert mean.iterations < 35
    assert float((mean.rows @ mean.rows.T - torch.eye(6)).abs().max()) < 1e-14


def test_orthogonal_samples_do_not_break_it() -> None:
    """The first sample is orthogonal to the others: its tangents are as long as they get, and it is outvoted."""
    frame = torch.eye(8, dtype=torch.float64)
    mean = frechet_mean(torch.stack([frame[:2], frame[4:6], frame[4:6], frame[4:6]]))
    assert mean.converged
    total = mean.distances.square().sum()
    assert float(total) <= 2 * (math.pi / 2) ** 2  # what the majority itself has
