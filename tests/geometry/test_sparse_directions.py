"""Directions turned inside their span: what they change overlaps least, and nothing else is different."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from geometry.subspaces import basis_of
from networks import rand

import latentjac
from latentjac.geometry import pullback_norm, sparse_directions, subspace_distance
from latentjac.solvers import LocalBasis


def planted(channels: int = 2) -> tuple[LocalBasis, torch.Tensor]:
    """A map whose sparse directions are known: each changes places of its own, and no singular vector does."""
    directions = torch.linalg.qr(rand(9, 3, seed=1))[0].T
    images = torch.zeros(3, channels, 6, dtype=torch.float64)
    for i in range(3):
        images[i, :, 2 * i : 2 * i + 2] = rand(channels, 2, seed=5 + i)
    images *= 3 / images.flatten(1).norm(dim=1)[:, None, None]  # equal values: singular vectors are any mixture
    mixed = torch.linalg.qr(rand(3, 3, seed=9))[0]
    matrix = (mixed @ images.flatten(1)).T @ (mixed @ directions)
    return basis_of(matrix + 1e-9 * rand(*matrix.shape, seed=3), k=3, y=(channels, 6)), directions


def test_planted_directions_are_found() -> None:
    basis, directions = planted()
    found = sparse_directions(basis)
    overlaps = (found.v.flatten(1) @ directions.T).abs()
    assert (overlaps.amax(0) > 1 - 1e-6).all()
    assert (overlaps.amax(1) > 1 - 1e-6).all()
    assert found.before < 0.9 < 1 - 1e-6 < found.concentration <= 1 + 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_span_lengths_and_orthonormality_stay(dtype: torch.dtype) -> None:
    basis = basis_of(rand(24, 10, seed=2).to(dtype), k=5, y=(2, 3, 4))
    found = sparse_directions(basis)
    small = 1e-12 if dtype == torch.float64 else 1e-6
    assert float(subspace_distance(found.v, basis).gap) < 1e3 * small
    assert found.orthogonality < small
    torch.testing.assert_close(found.rotation @ found.rotation.T, torch.eye(5).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.effects, pullback_norm(basis, found.v), rtol=10 * small, atol=0)
    assert float(found.effects.square().sum() / basis.s.double().square().sum()) == pytest.approx(1, abs=small)
    assert (found.effects.diff() <= 0).all()
    assert found.concentration > found.before
    assert found.v.dtype == dtype


def test_no_small_turn_is_better() -> None:
    basis = basis_of(rand(24, 10, seed=4), k=4, y=(2, 12))
    found = sparse_directions(basis)
    images = torch.einsum("ij,j,jcp->icp", found.rotation, basis.s, basis.u)

    def criterion(turn: torch.Tensor) -> float:
        return float(torch.einsum("ij,jcp->icp", turn, images).square().sum(1).square().sum())

    best = criterion(torch.eye(4).double())
    for seed in range(20):
        step = 1e-3 * rand(4, 4, seed=seed)
        assert criterion(torch.linalg.matrix_exp(step - step.T)) < best


def test_a_turn_of_colours_changes_nothing() -> None:
    basis, _ = planted(channels=3)
    turn = torch.linalg.qr(rand(3, 3, seed=8))[0]
    other = replace(basis, u=torch.einsum("dc,kcp->kdp", turn, basis.u))
    torch.testing.assert_close(sparse_directions(other).v, sparse_directions(basis).v, rtol=0, atol=1e-9)


def test_channels_may_come_last() -> None:
    basis, _ = planted()
    last = replace(basis, u=basis.u.movedim(1, 2))
    torch.testing.assert_close(sparse_directions(last, channels=1).v, sparse_directions(basis).v, rtol=0, atol=1e-9)


def test_points_of_a_batch_are_turned_by_themselves(tiny_model: latentjac.Model, tiny_point: latentjac.Point) -> None:
    two = replace(tiny_point, sample=torch.cat([tiny_point.sample, rand(1, 3, 16, 16, seed=4)]))
    both = sparse_directions(latentjac.local_basis(tiny_model, two, 2, "x0", tol=1e-6))
    for i in range(2):
        one = latentjac.local_basis(tiny_model, replace(two, sample=two.sample[i : i + 1]), 2, "x0", tol=1e-6)
        torch.testing.assert_close(both.v[i], sparse_directions(one).v, rtol=0, atol=1e-4)
    assert both.effects.shape == (2, 2)
    assert both.rotation.shape == (2, 2, 2)


def test_refusals() -> None:
    basis, _ = planted()
    with pytest.raises(TypeError, match=r"sparse_directions: basis must be a LocalBasis, got Tensor"):
        sparse_directions(basis.v)
    with pytest.raises(ValueError, match=r"sparse_directions: channels must be a dimension of y.shape\[1:\]"):
        sparse_directions(basis, channels=2)
    null = replace(basis, s=basis.s * torch.tensor([1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="singular values of basis must be positive, got 0"):
        sparse_directions(null)
