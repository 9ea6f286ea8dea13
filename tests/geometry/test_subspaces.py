"""Principal angles and distances against prescribed angles and projectors."""

from __future__ import annotations

import math

import pytest
import torch
from geometry.subspaces import basis_of, orthonormal, pair_with_angles
from networks import rand

import latentjac

ANGLES = [[1e-9, 1e-5, 0.3], [0.0, 0.7, math.pi / 2], [1e-9], [1e-8, 1.1, math.pi / 2 - 1e-9], [0.4, 0.4, 0.4]]


@pytest.mark.parametrize("angles", ANGLES, ids=str)
def test_prescribed_angles(angles: list[float]) -> None:
    a, b = pair_with_angles(angles)
    expected = torch.tensor(angles, dtype=torch.float64)
    torch.testing.assert_close(latentjac.geometry.principal_angles(a, b), expected, rtol=1e-13, atol=2e-15)
    torch.testing.assert_close(latentjac.geometry.principal_angles(b, a), expected, rtol=1e-13, atol=2e-15)


def test_subspaces_of_different_dimension() -> None:
    a, b = pair_with_angles([0.2, 0.5, 0.9], n=20)
    wider = torch.cat([b, orthonormal(20, 20, 9)])
    wider = torch.linalg.qr(wider.T)[0].T[:5]  # the span of b and two more
    found = latentjac.geometry.principal_angles(a, wider)
    assert found.shape == (3,)
    exact = torch.acos(torch.linalg.svdvals(a @ wider.T).clamp(max=1))
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(latentjac.geometry.principal_angles(wider, a), found)
    assert float(latentjac.geometry.principal_angles(b, wider).max()) < 1e-14


def test_distances_are_those_of_projectors_and_frames() -> None:
    angles = torch.tensor([0.1, 0.6, 1.2], dtype=torch.float64)
    a, b = pair_with_angles(angles.tolist())
    d = latentjac.geometry.subspace_distance(a, b)
    difference = a.T @ a - b.T @ b
    assert float(d.geodesic) == pytest.approx(math.sqrt(0.01 + 0.36 + 1.44))
    assert float(d.relative) == pytest.approx(float(d.geodesic) / (math.pi / 2 * math.sqrt(3)))
    assert float(d.projection) == pytest.approx(float(difference.norm()) / math.sqrt(2))
    assert float(d.gap) == pytest.approx(float(torch.linalg.matrix_norm(difference, 2)))
    left, _, right = torch.linalg.svd(a @ b.T)
    assert float(d.chordal) == pytest.approx(float((a - left @ right @ b).norm()))
    right_angles = latentjac.geometry.subspace_distance(torch.eye(6).double()[:3], torch.eye(6).double()[3:])
    assert float(right_angles.relative) == pytest.approx(1.0)
    assert "geodesic 1.35" in repr(d)


def test_bases_in_both_spaces_and_several_points() -> None:
    jacobians = [rand(9, 8, seed=seed) for seed in range(3)]
    one, many = basis_of(jacobians[0], k=2, x=(2, 4)), basis_of(*jacobians, k=2, x=(2, 4))
    for space, name in (("x", "v"), ("h", "u")):
        found = latentjac.geometry.principal_angles(one, many, space)
        assert found.shape == (3, 2)
        for i, row in enumerate(getattr(many, name).flatten(2)):
            alone = latentjac.geometry.principal_angles(getattr(one, name).flatten(1), row)
            torch.testing.assert_close(found[i], alone, rtol=0, atol=1e-14)
    x, h = (latentjac.geometry.principal_angles(one, many, space) for space in "xh")
    assert float((x[1:] - h[1:]).norm(dim=1).min()) > 0.1


def test_single_precision_bases_resolve_their_rounding() -> None:
    a, b = pair_with_angles([1e-3, 0.5])
    found = latentjac.geometry.principal_angles(a.float(), b.float())
    assert found.dtype is torch.float64
    torch.testing.assert_close(found, torch.tensor([1e-3, 0.5], dtype=torch.float64), rtol=0, atol=3e-7)


def test_rows_that_are_nearly_orthonormal_are_made_so() -> None:
    a, b = pair_with_angles([0.0, 0.5])
    found = latentjac.geometry.principal_angles(1.0001 * a, b / 1.0001)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5], dtype=torch.float64), rtol=0, atol=1e-14)


def test_pairwise() -> None:
    rows = torch.stack([orthonormal(2, 7, seed) for seed in range(4)])
    table = latentjac.geometry.pairwise_distances(rows)
    for i in range(4):
        for j in range(4):
            exact = float(latentjac.geometry.subspace_distance(rows[i], rows[j]).geodesic)
            assert float(table[i, j]) == pytest.approx(exact if i != j else 0.0, abs=1e-13)
    bases = [basis_of(rand(5, 6, seed=seed), k=2) for seed in range(3)]
    together = basis_of(*(rand(5, 6, seed=seed) for seed in range(3)), k=2)
    for space in "xh":
        tables = [latentjac.geometry.pairwise_distances(given, space) for given in (bases, together)]
        torch.testing.assert_close(*tables)
