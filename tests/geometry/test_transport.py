"""Transport between linear maps, where the exact answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from geometry.subspaces import basis_of, orthonormal, pair_with_angles, with_triplets
from networks import rand

import latentjac
from latentjac.geometry import parallel_transport, pull_back

S1, S2 = [5.0, 3.0, 1.0], [4.0, 0.5, 0.1]
U, V1, V2 = orthonormal(3, 9, 1), orthonormal(3, 8, 2), orthonormal(3, 8, 3)
J1, J2 = with_triplets(U, S1, V1), with_triplets(U, S2, V2)
SOURCE, TARGET = basis_of(J1, k=3, x=(2, 4), y=(9,)), basis_of(J2, k=3, x=(2, 4), y=(9,))


@pytest.mark.parametrize("method", ["park2023", "pseudoinverse"])
def test_partners_of_singular_vectors(method: str) -> None:
    """With the same u in both maps, each v goes to the v of the same u, whatever the method."""
    found = parallel_transport(SOURCE, SOURCE, TARGET, method)
    torch.testing.assert_close(found.u, SOURCE.u)
    images = found.v.flatten(1) @ J2.T
    torch.testing.assert_close(images / images.norm(dim=1, keepdim=True), SOURCE.u, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.retained, torch.ones(3).double())
    torch.testing.assert_close(found.lengths, 1 / TARGET.s if method == "pseudoinverse" else torch.ones(3).double())


def test_methods_differ_for_a_mixture() -> None:
    d = torch.tensor([[1.0, 2.0, -0.5]], dtype=torch.float64) @ V1
    forward = d @ J1.T
    u = forward / forward.norm()
    exact = forward @ torch.linalg.pinv(J2).T
    paper, inverse = (parallel_transport(d.view(1, 2, 4), SOURCE, TARGET, m) for m in ("park2023", "pseudoinverse"))
    torch.testing.assert_close(inverse.v.flatten(1), exact / exact.norm(), rtol=0, atol=1e-12)
    torch.testing.assert_close((inverse.lengths[:, None] * inverse.v.flatten(1)) @ J2.T, u, rtol=0, atol=1e-12)
    torch.testing.assert_close(paper.v.flatten(1), u @ U.T @ V2, rtol=0, atol=1e-12)
    assert float((paper.v - inverse.v).norm()) > 0.1


def test_retained_energy_is_the_squared_cosine() -> None:
    angles = [0.2, 0.9, 1.3]
    first, second = pair_with_angles(angles, n=9)
    # Principal vectors of the pair: the i-th u is angles[i] away from the second subspace.
    left = torch.linalg.svd(first @ second.T)[0].T @ first
    source, target = (basis_of(with_triplets(u, S1, V1), k=3) for u in (left, second))
    cosines = torch.tensor(angles, dtype=torch.float64).cos()
    found = parallel_transport(source.v, source, target)
    torch.testing.assert_close(found.retained, cosines**2)
    torch.testing.assert_close(found.lengths, cosines)
    inside = found.u @ second.T @ second
    torch.testing.assert_close(found.arrived, inside / inside.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found.v.norm(dim=1), torch.ones(3).double())
    step = parallel_transport(source.v, source, target, "pseudoinverse")
    reached = (step.lengths[:, None] * step.v) @ with_triplets(second, S1, V1).T
    torch.testing.assert_close(reached, step.u @ second.T @ second, rtol=0, atol=1e-12)


def test_tikhonov_solves_its_normal_equations() -> None:
    u = rand(2, 9)
    u = u / u.norm(dim=1, keepdim=True)
    found = pull_back(3 * u, TARGET, "pseudoinverse", regularization=0.2)
    damped = J2.T @ J2 + (0.2 * S2[0]) ** 2 * torch.eye(8).double()
    exact = torch.linalg.solve(damped, J2.T @ u.T).T
    torch.testing.assert_close(found.lengths[:, None] * found.v.flatten(1), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.u, u)


def test_singular_values_of_zero_are_left_out() -> None:
    flat = basis_of(with_triplets(U, [2.0, 1.0, 0.0], V2), k=3)
    u = (U[0] + flat.u[2] * torch.sign(flat.u[2] @ U[2])) / math.sqrt(2)
    found = pull_back(u[None], flat, "pseudoinverse")
    assert float(found.lengths) == pytest.approx(0.5 / math.sqrt(2))
    assert float(found.retained) == pytest.approx(1.0)


def test_several_points_on_either_side() -> None:
    jacobians = [rand(9, 8, seed=seed) for seed in range(3)]
    many = basis_of(*jacobians, k=3, x=(2, 4))
    d = SOURCE.v[:2]
    out = parallel_transport(d, SOURCE, many)
    back = parallel_transport(many.v, many, SOURCE, "pseudoinverse", 0.1)
    among = parallel_transport(many, many, many)
    assert (out.v.shape, out.retained.shape) == ((3, 2, 2, 4), (3, 2))
    assert back.v.shape == (3, 3, 2, 4)
    for i in range(3):
        one = many.point(i)
        torch.testing.assert_close(out.v[i], parallel_transport(d, SOURCE, one).v)
        alone = parallel_transport(one, one, SOURCE, "pseudoinverse", 0.1)
        torch.testing.assert_close(back.v[i], alone.v)
        torch.testing.assert_close(back.lengths[i], alone.lengths)
    torch.testing.assert_close(among.v, many.v)  # from a basis to itself nothing changes


def test_between_points_of_a_network(tiny_model, tiny_point) -> None:
    """On the exact Jacobian, the pseudo-inverse brings the features where it says."""
    other = replace(tiny_point, sample=0.9 * tiny_point.sample)
    source, target = (latentjac.local_basis(tiny_model, p, k=3, tol=1e-8) for p in (tiny_point, other))
    found = parallel_transport(source, source, target, "pseudoinverse")
    lin = tiny_model.linearization("mid", other.sample, torch.tensor(599))
    moved = latentjac.geometry.pullback_norm(lin, found.v) * found.lengths
    torch.testing.assert_close(moved, found.retained.sqrt(), rtol=1e-6, atol=0)
    assert (found.retained > 0.1).all()


def test_single_precision_in_and_out() -> None:
    found = parallel_transport(SOURCE.v[:1].float(), SOURCE.to(dtype=torch.float32), TARGET.to(dtype=torch.float32))
    assert (found.v.dtype, found.u.dtype, found.retained.dtype) == (torch.float32, torch.float32, torch.float64)
    assert float(found.retained) == pytest.approx(1.0, abs=1e-6)
