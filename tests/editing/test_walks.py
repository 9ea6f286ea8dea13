"""Linear walks, geodesics, look-ups and compositions against closed forms and against the same done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from editing.known import (
    Mix,
    Network,
    OntoSphere,
    Turning,
    convolution,
    kind,
    linear,
    model_of,
    point_for,
    sigma_at,
    unit,
)
from networks import point_at, rand

import latentjac
from latentjac.diffusion import predict_noise
from latentjac.editing import Geodesic, Guidance, Linear, Method, Reestimation
from latentjac.geometry.linearity import LENGTHS


def test_linear_walk(tiny_model, tiny_point) -> None:
    v = torch.stack([unit(3, 16, 16), unit(3, 16, 16, seed=4)])
    result = latentjac.edit(tiny_model, tiny_point, v, [-2.0, 5.0], method=Linear(num_steps=3))
    for i in range(2):
        for j, d in enumerate((-2.0, 5.0)):
            expected = tiny_point.sample[0] + d * sigma_at(tiny_model) * v[i]
            torch.testing.assert_close(result.points[i, j], expected)
            end = point_at(expected[None])
            clean = latentjac.sample(tiny_model, end, output_type="latent")
            torch.testing.assert_close(result.samples[i, j], clean[0])
    assert result.gains is result.retained is result.overlaps is result.leakage is None


def test_distances_whose_product_vanishes_lie_on_their_sides(tiny_model, tiny_point) -> None:
    v = unit(3, 16, 16)
    result = latentjac.edit(tiny_model, tiny_point, v, [-1e-321, 1e-320], method=Linear(num_steps=1))
    torch.testing.assert_close(result.points[0], tiny_point.sample.expand(2, -1, -1, -1))


def test_a_geodesic_of_a_linear_map_is_straight() -> None:
    model = linear()
    point = point_for(model)
    v = latentjac.local_basis(model, point, 4, tol=1e-8).v[2]
    bent = latentjac.edit(model, point, v, [-3.0, 3.0], method=Geodesic(num_steps=5, k=4, tol=1e-8))
    straight = latentjac.edit(model, point, v, [-3.0, 3.0], method=Linear(num_steps=5))
    torch.testing.assert_close(bent.points, straight.points, rtol=0, atol=1e-6)
    torch.testing.assert_close(bent.retained, torch.ones(5, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(bent.along.feature_path, straight.along.feature_path, rtol=1e-5, atol=0)


def test_geodesics_of_the_sphere_are_great_circles() -> None:
    """They stay at their radius, past the 90 degrees of a straight walk; what is missing is of second order."""
    model = model_of(Network(2, OntoSphere(), convolution(1)))
    point = point_for(model)
    start = point.sample.flatten()
    radius = float(start.norm())
    v = rand(12, seed=5)
    v = v - (v @ start) / (start @ start) * start
    v = v / v.norm()
    distance = 2.0 * radius / sigma_at(model)
    expected = radius * (math.cos(2.0) * start / radius + math.sin(2.0) * v)
    errors = []
    for num_steps in (12, 24):
        method = Geodesic(num_steps=num_steps, k=11, tol=1e-9, linearity_tolerance=0.9)
        result = latentjac.edit(model, point, v.view(3, 2, 2), distance, method=method)
        assert result.num_steps == num_steps
        errors.append(float((result.points.flatten() - expected).norm()))
    assert errors[1] < 0.01 * radius
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)
    assert float(result.along.feature_path) == pytest.approx(2.0, rel=5e-3)
    assert float(result.along.path) == pytest.approx(distance, rel=1e-9)
    assert result.retained[0].item() == pytest.approx(1.0)
    assert result.retained[1:].max() < 1 - 1e-4  # a tangent of one point is not quite one of the next


@pytest.mark.parametrize("transport", ["park2023", "pseudoinverse"])
def test_a_geodesic_by_hand(transport: str) -> None:
    """A mixture of directions, with the dense Jacobian of features ``A x + x^2 / 2`` at every step."""
    model, k = model_of(Network(2, Mix(0.5), convolution(1))), 7
    point = point_for(model)

    def dense(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        jacobian = torch.autograd.functional.jacobian(lambda z: model.network.mid(z.view(1, 3, 2, 2)).flatten(), x)
        u, s, v = torch.linalg.svd(jacobian)
        return u[:, :k].T, s[:k], v[:k]

    x = point.sample.flatten()
    u_rows, s, v_rows = dense(x)
    c = rand(k, seed=8)
    v = v_rows.T @ c / c.norm()
    method = Geodesic(num_steps=4, transport=transport, k=k, tol=1e-10, linearity_tolerance=0.9)
    result = latentjac.edit(model, point, v.view(3, 2, 2), 2.0, method=method)
    u = u_rows.T @ (c if transport == "park2023" else s * c)
    u, retained, start, before = u / u.norm(), [1.0], x, None
    length = 2.0 * sigma_at(model) / result.num_steps
    for number in range(result.num_steps):
        if number:
            old, (u_rows, s, v_rows) = u_rows, dense(x)
            there = u_rows.T @ u_rows @ u
            retained.append(float(there @ there))
            c = u_rows @ (1.5 * u - 0.5 * old.T @ old @ there)
            u = u_rows.T @ c / c.norm()
            v = v_rows.T @ (c if transport == "park2023" else c / s)
            v = v / v.norm()
            start = start + length * (before + v) / (before + v).norm()
        ahead = v if before is None else 3 * v - before
        x, before = start + length * ahead / ahead.norm(), v
    torch.testing.assert_close(result.points.flatten(), x, rtol=0, atol=1e-7)
    assert result.retained.flatten().tolist() == pytest.approx(retained, abs=1e-7)
    assert min(retained) < 0.999


@pytest.mark.parametrize("transport", ["park2023", "pseudoinverse"])
def test_geodesics_err_with_the_square_of_their_steps(transport: str) -> None:
    """Of tangent spaces that turn as a whole, where a plain projection would be of first order."""
    model = model_of(Network(2, Turning(), convolution(1)))
    point = point_for(model)
    basis = latentjac.local_basis(model, point, 2, tol=1e-10)
    v = basis.v[0] + 0.7 * basis.v[1]
    ends = []
    for num_steps in (6, 12, 96):
        method = Geodesic(num_steps=num_steps, k=2, tol=1e-10, transport=transport, diagnostics=False)
        result = latentjac.edit(model, point, v, 2.0, method=method)
        assert result.num_steps == num_steps
        ends.append(result.points.flatten())
    errors = [float((end - ends[-1]).norm()) for end in ends[:2]]
    assert errors[0] > 1e-5
    assert math.log2(errors[0] / errors[1]) > 1.6


def test_one_trace_serves_a_geodesic(own_model, tiny_point, monkeypatch) -> None:
    from latentjac.models import traces as module

    traces, linearize = [], module.linearize
    monkeypatch.setattr(module, "linearize", lambda *a, **k: traces.append(1) or linearize(*a, **k))
    v = latentjac.local_basis(own_model, tiny_point, 2, tol=1e-2).v
    latentjac.edit(own_model, tiny_point, v, [-0.5, 0.5], method=Geodesic(num_steps=2, k=2))
    assert len(traces) == 1


def test_directions_outside_the_basis_have_no_geodesic(tiny_model, tiny_point) -> None:
    basis = latentjac.local_basis(tiny_model, tiny_point, 4, tol=1e-8)
    with pytest.raises(ValueError, match="directions must have a part in the top 2 directions"):
        latentjac.edit(tiny_model, tiny_point, basis.v[3], 1.0, method=Geodesic(num_steps=2, k=2, tol=1e-8))


def test_looking_up_in_a_linear_network_changes_nothing() -> None:
    model = linear()
    point = point_for(model)
    v = latentjac.local_basis(model, point, 3, tol=1e-9).v[:2]
    plain = latentjac.edit(model, point, v, 2.0, method=Guidance(num_steps=5))
    looking_up = Guidance(num_steps=5, reestimate=Reestimation(2, k=3, tol=1e-9))
    again = latentjac.edit(model, point, v, 2.0, method=looking_up)
    torch.testing.assert_close(plain.points, again.points, rtol=0, atol=1e-7)
    torch.testing.assert_close(again.overlaps, torch.ones(2, 2, 1, dtype=torch.float64))


def test_a_looked_up_direction_is_the_nearest_of_the_new_basis(tiny_model, tiny_point) -> None:
    """Two steps by hand, with a basis computed from scratch between them."""
    v = -latentjac.local_basis(tiny_model, tiny_point, 3, tol=1e-8).v[1]
    method = Guidance(num_steps=2, reestimate=Reestimation(1, k=3, tol=1e-8), linearity_tolerance=0.9)
    result = latentjac.edit(tiny_model, tiny_point, v, 4.0, method=method)
    assert result.num_steps == 2
    sigma = sigma_at(tiny_model)
    probe = max(length for length in LENGTHS if length <= min(1.0, result.linearity[0].radius)) * sigma
    x = tiny_point.sample
    for number in range(2):
        if number:
            new = latentjac.local_basis(tiny_model, point_at(x), 3, tol=1e-8).v
            cosines = new.flatten(1) @ v.flatten()
            best = int(cosines.abs().argmax())
            v = cosines[best].sign() * new[best]
            assert float(result.overlaps) == pytest.approx(float(cosines[best].abs()), abs=1e-6)
        change = predict_noise(tiny_model, x + probe * v, 599) - predict_noise(tiny_model, x, 599)
        x = x + 2.0 * sigma * change / change.norm()
    torch.testing.assert_close(result.points[0], x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method", [Linear(num_steps=4), Guidance(num_steps=4), Geodesic(num_steps=4, k=4, tol=1e-8)], ids=kind
)
def test_composed_directions_add_their_walks(method: Method) -> None:
    """In a linear network the sum of walks is the walk of the sum."""
    model = linear()
    point = point_for(model)
    v = latentjac.local_basis(model, point, 4, tol=1e-8).v[:2]
    both = latentjac.edit(model, point, v, [2.0, -1.0], compose=True, method=method)
    each = [
        latentjac.edit(model, point, v[i], d, method=method).points[0, 0] - point.sample[0]
        for i, d in enumerate((2.0, -1.0))
    ]
    assert both.points.shape[:2] == (1, 1)
    assert len(both.images) == 1
    assert both.distances == (2.0, -1.0)
    torch.testing.assert_close(both.points[0, 0], point.sample[0] + each[0] + each[1], rtol=0, atol=1e-6)
    for measured in (both.gains, both.retained):
        assert measured is None or measured.shape == (4, 2, 1)


def test_a_direction_of_one_image_edits_another() -> None:
    """A transferred direction walks like any other."""
    model = linear()
    v = latentjac.local_basis(model, point_for(model), 2).v[0]
    other = point_for(model, seed=9)
    result = latentjac.edit(model, other, v, 2.0, method=Linear(num_steps=2))
    torch.testing.assert_close(result.points[0, 0], other.sample[0] + 2 * sigma_at(model) * v)
