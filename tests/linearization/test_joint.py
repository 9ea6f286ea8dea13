"""Functions of several tensors, or with several results, against dense Jacobians and torch.func."""

from __future__ import annotations

import pytest
import torch
from networks import rand

import latentjac
from latentjac.linearization import JointLinearization, linearize

Tensor = torch.Tensor
BACKENDS = ("program", "autodiff")


def velocity(z: Tensor, t: Tensor, r: Tensor, shift: float = 0.1) -> Tensor:
    """Mixes the three, each with its own shape, as a network with two times does."""
    return torch.tanh(z * t[:, None, None] + r.sin()[:, None, None] + shift) @ WEIGHT


WEIGHT = rand(5, 4)
POINT = (rand(3, 2, 5), rand(3), rand(3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_tangents_in_all_arguments_at_once(backend: str) -> None:
    lin = linearize(velocity, POINT, 0.3, backend=backend)
    v = tuple(rand(2, *part.shape, seed=i) for i, part in enumerate(POINT))
    expected = [torch.func.jvp(lambda *a: velocity(*a, 0.3), POINT, tuple(part[i] for part in v))[1] for i in range(2)]
    torch.testing.assert_close(lin.jvp(v), torch.stack(expected))
    torch.testing.assert_close(lin.y, velocity(*POINT, 0.3))
    assert [part.shape for part in lin.x] == [part.shape for part in POINT]
    assert all(torch.equal(a, b) for a, b in zip(lin.x, POINT, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_cotangents_of_several_results(backend: str) -> None:
    def f(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        y = velocity(z, t, t)
        return y, y.square().sum((1, 2))

    lin = linearize(f, POINT[:2], backend=backend)
    u = rand(2, *lin.y[0].shape), rand(2, *lin.y[1].shape)
    _, pull = torch.func.vjp(f, *POINT[:2])
    for i in range(2):
        for got, expected in zip(lin.vjp(u), pull((u[0][i], u[1][i])), strict=True):
            torch.testing.assert_close(got[i], expected)
    assert lin.check_adjoint() < 1e-12


def test_one_argument_with_several_results_stays_one() -> None:
    lin = linearize(lambda x: (x * 2, x.sum(1)), rand(3, 4))
    assert isinstance(lin, JointLinearization)
    assert lin.x.shape == (3, 4)
    assert lin.jvp(rand(2, 3, 4))[1].shape == (2, 3)


def test_singular_vectors_are_those_of_the_dense_jacobian() -> None:
    point = tuple(part[:1] for part in POINT)
    lin = linearize(velocity, point)
    basis = latentjac.svd(lin.flat, k=2, tol=1e-8)
    jacobians = torch.func.jacrev(velocity, argnums=(0, 1, 2))(*point)
    dense = torch.cat([j.reshape(8, -1) for j in jacobians], dim=1)
    torch.testing.assert_close(basis.s.flatten(), torch.linalg.svdvals(dense)[:2], rtol=1e-6, atol=0)
    z, t, r = lin.split_x(basis.v)
    assert [list(part.shape) for part in (z, t, r)] == [[2, 2, 5], [2], [2]]
    pushed = lin.split_y(basis.u) * basis.s.reshape(-1, 1, 1)
    torch.testing.assert_close(lin.jvp((z[:, None], t[:, None], r[:, None]))[:, 0], pushed, rtol=1e-6, atol=1e-9)


def test_moves_to_other_points_with_the_same_trace() -> None:
    lin = linearize(velocity, POINT, 0.3, backend="program")
    program = lin.flat.program
    other = tuple(part * 0.5 for part in POINT)
    lin.rebase(other)
    torch.testing.assert_close(lin.y, velocity(*other, 0.3))
    assert lin.flat.program is program


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((), "x must be a tuple of at least one tensor, got 0"),
        ((POINT[0], POINT[1][:2]), r"x\[1\] must hold 3 points torch.float64 on cpu"),
        ((POINT[0], POINT[1].float()), r"x\[1\] must hold 3 points torch.float64 on cpu"),
        ((POINT[0], 0.5), "x must be a torch.Tensor, got float"),
    ],
)
def test_other_tuples_are_refused(x: tuple, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        linearize(velocity, x)


def test_probes_of_another_form_are_refused() -> None:
    lin = linearize(velocity, POINT)
    v = tuple(rand(2, *part.shape) for part in POINT)
    with pytest.raises(TypeError, match="v must be a tuple of 3 tensors, got Tensor"):
        lin.jvp(v[0])
    with pytest.raises(ValueError, match=r"v\[2\] must hold 2 probes, as v\[0\] does, got 1"):
        lin.jvp((v[0], v[1], v[2][:1]))
    with pytest.raises(ValueError, match=r"v\[1\] must have shape \[k >= 1, 3\], got \[2, 4\]"):
        lin.jvp((v[0], rand(2, 4), v[2]))
    with pytest.raises(TypeError, match="rebase: x must be a tuple of 3 tensors, got 2"):
        lin.rebase(POINT[:2])
