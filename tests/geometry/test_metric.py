"""Pullback products against closed-form metrics and dense Jacobians."""

from __future__ import annotations

import torch
from geometry.maps import RADIUS, sphere
from geometry.subspaces import basis_of
from networks import rand

import latentjac

POINTS = torch.tensor([[0.4, 1.0], [1.3, -2.0], [2.9, 0.1]], dtype=torch.float64)


def test_metric_of_the_sphere_at_many_points() -> None:
    lin = latentjac.linearize(sphere, POINTS)
    a, b = rand(3, 4, 2, seed=1), rand(3, 4, 2, seed=2)
    metric = RADIUS**2 * torch.stack([torch.ones(3), POINTS[:, 0].sin() ** 2], 1).double()[:, None]
    torch.testing.assert_close(
        latentjac.geometry.pullback_inner(lin, a, b), (metric * a * b).sum(2), rtol=1e-13, atol=1e-13
    )
    torch.testing.assert_close(
        latentjac.geometry.pullback_norm(lin, a), (metric * a * a).sum(2).sqrt(), rtol=1e-13, atol=0
    )


def test_directions_are_shared_by_points_or_not() -> None:
    lin = latentjac.linearize(sphere, POINTS)
    shared = rand(4, 2)
    each = latentjac.geometry.pullback_norm(lin, shared.expand(3, 4, 2))
    assert torch.equal(latentjac.geometry.pullback_norm(lin, shared), each)
    alone = latentjac.linearize(sphere, POINTS[1:2])
    torch.testing.assert_close(latentjac.geometry.pullback_norm(alone, shared), each[1], rtol=1e-14, atol=0)


def test_basis_knows_its_span_and_nothing_else() -> None:
    jacobian = rand(7, 12)
    basis = basis_of(jacobian, k=3, x=(3, 2, 2), y=(7,))
    torch.testing.assert_close(latentjac.geometry.pullback_norm(basis, basis.v), basis.s, rtol=1e-13, atol=0)
    v = rand(5, 3, 2, 2, seed=3)
    exact = (v.flatten(1) @ jacobian.T).norm(dim=1)
    assert (latentjac.geometry.pullback_norm(basis, v) < exact).all()
    torch.testing.assert_close(latentjac.geometry.pullback_norm(basis_of(jacobian, k=7, x=(3, 2, 2)), v), exact)
    rest = basis_of(jacobian, k=7, x=(3, 2, 2)).v[3:]
    assert float(latentjac.geometry.pullback_norm(basis, rest).max()) < 1e-13
    inside = (v.flatten(1) @ basis.v.flatten(1).T) @ basis.v.flatten(1)
    expected = ((inside @ jacobian.T) * (basis.v.flatten(1)[[0]] @ jacobian.T)).sum(1)
    first = basis.v[:1].expand(5, 3, 2, 2)
    torch.testing.assert_close(latentjac.geometry.pullback_inner(basis, v, first), expected)


def test_basis_of_several_points() -> None:
    jacobians = rand(6, 5, seed=1), rand(6, 5, seed=2)
    v = rand(2, 3, 5, seed=3)
    exact = torch.stack([(row @ jacobian.T).norm(dim=1) for row, jacobian in zip(v, jacobians, strict=True)])
    torch.testing.assert_close(latentjac.geometry.pullback_norm(basis_of(*jacobians, k=5), v), exact)


def test_of_a_network(tiny_model, tiny_point) -> None:
    lin = tiny_model.linearization("mid", tiny_point.sample, torch.tensor(599))
    basis = latentjac.local_basis(tiny_model, tiny_point, k=3, tol=1e-7)
    torch.testing.assert_close(latentjac.geometry.pullback_norm(lin, basis.v), basis.s, rtol=1e-7, atol=0)
    gram = latentjac.geometry.pullback_inner(lin, basis.v, basis.v.roll(1, 0))
    assert float(gram.abs().max()) < 1e-6 * float(basis.s[0]) ** 2  # singular vectors are orthogonal in the metric too
