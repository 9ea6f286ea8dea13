"""Some of the points of a linearization, alone."""

from __future__ import annotations

import pytest
import torch
from networks import rand

import latentjac
from latentjac.linearization import engine

BACKENDS = ["program", "autodiff"]


def network(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    scores = torch.softmax(x[:, None] @ context.mT, dim=-1)
    return torch.tanh((scores @ context)[:, 0] + x) * t


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_are_those_of_the_chosen_points(backend: str) -> None:
    x, t, context = rand(4, 6), rand(()), rand(4, 3, 6, seed=1)
    lin = latentjac.linearize(network, x, t, context, backend=backend)
    v, u = rand(5, 4, 6, seed=2), rand(5, 4, 6, seed=3)
    for points in ([0, 2], [1, 3], [3]):
        part = lin.restrict(points)
        assert part.backend == backend
        assert torch.equal(part.x, x[points])
        torch.testing.assert_close(part.y, lin.y[points], rtol=1e-12, atol=0)
        torch.testing.assert_close(part.jvp(v[:, points]), lin.jvp(v)[:, points], rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(part.vjp(u[:, points]), lin.vjp(u)[:, points], rtol=1e-10, atol=1e-13)
        assert part.check_adjoint() < 1e-12


def test_as_many_points_again_are_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lin = latentjac.linearize(network, rand(4, 6), rand(()), rand(4, 3, 6, seed=1), backend="program")
    assert lin.restriction_cost(2) > 1
    first = lin.restrict([0, 1])
    assert lin.restriction_cost(2) == 1
    assert lin.restriction_cost(1) > 1
    monkeypatch.setattr(engine, "trace", lambda *args: pytest.fail("traced again"))
    second = lin.restrict([2, 3])
    assert torch.equal(first.x, lin.x[:2]), "it stays where it is"
    del first
    assert second.engine is not lin.restrict([0, 2]).engine


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("points", [[], [1, 0], [0, 0], [0, 4], [-1, 0]])
def test_indices_are_refused(backend: str, points: list[int]) -> None:
    lin = latentjac.linearize(network, rand(4, 6), rand(()), rand(4, 3, 6, seed=1), backend=backend)
    with pytest.raises(
        ValueError, match=r"restrict: points must be (ascending indices in \[0, 4\)|a non-empty sequence of ints), got"
    ):
        lin.restrict(points)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_map_that_mixes_points_is_refused(backend: str) -> None:
    lin = latentjac.linearize(lambda x: x - x.mean(0), rand(3, 4), backend=backend)
    with pytest.raises(ValueError, match="restrict: f must treat points independently"):
        lin.restrict([0, 1])
