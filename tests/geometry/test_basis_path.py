"""Bases along a trajectory: as good as those computed one by one, from fewer vectors."""

from __future__ import annotations

import pytest
import torch
from interrupted import interrupt_at
from PIL import Image

import latentjac
from latentjac.diffusion import DDIM, Own
from latentjac.solvers import Krylov, Status


@pytest.fixture(scope="module")
def trajectory(traced_model: latentjac.Model) -> latentjac.Trajectory:
    return latentjac.invert(traced_model, Image.new("RGB", (16, 16), "orange"), 50, grid=Own(), solver=DDIM())


def near(trajectory: latentjac.Trajectory, count: int) -> list[int]:
    """Neighbouring timesteps of the grid, from noisy to clean."""
    return sorted(trajectory.schedule.timesteps[1:], reverse=True)[15 : 15 + count]


def test_as_good_as_one_by_one_and_cheaper(tiny_model, trajectory) -> None:
    timesteps = near(trajectory, 4)
    warm = latentjac.basis_path(tiny_model, trajectory, timesteps, 4, tol=1e-2, solver=Krylov(block_size=2, confirm=0))
    cold = latentjac.basis_path(
        tiny_model, trajectory, timesteps, 4, tol=1e-2, solver=Krylov(block_size=2, confirm=0), warm=False
    )
    assert [point.timestep for point in warm.points] == timesteps
    assert warm.cold == (True, False, False, False)
    assert sum(warm.vectors[1:]) < 0.95 * sum(cold.vectors[1:])
    assert cold.saved == pytest.approx(0.0)
    assert warm.saved == pytest.approx(1 - sum(warm.vectors) / (4 * warm.vectors[0]))
    for i, timestep in enumerate(timesteps):
        exact = latentjac.local_basis(tiny_model, trajectory.at(timestep=timestep), 4, tol=1e-8)
        assert warm[i].status is Status.CONVERGED
        assert float(warm[i].residuals.max()) <= 1e-2
        torch.testing.assert_close(warm[i].s, exact.s, rtol=1e-4, atol=0)


def test_one_trace_serves_all(own_model, trajectory, monkeypatch) -> None:
    from latentjac.models import traces as module

    traces, linearize = [], module.linearize
    monkeypatch.setattr(module, "linearize", lambda *a, **k: traces.append(1) or linearize(*a, **k))
    latentjac.basis_path(own_model, trajectory, near(trajectory, 3), 2, tol=1e-2)
    assert len(traces) == 1


def test_table_and_progress(tiny_model, trajectory, capsys) -> None:
    path = latentjac.basis_path(tiny_model, trajectory, [0.7, 0.68], 2, tol=1e-2, progress=True)
    lines = str(path).splitlines()
    assert len(path) == len(list(path)) == 2
    assert [line.split()[0] for line in lines[1:3]] == [str(point.timestep) for point in path.points]
    assert ("cold" in lines[1], "warm" in lines[2]) == (True, True)
    assert "fewer than cold starts" in lines[3]
    assert "saved=" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:svd")
def test_a_callback_stops_the_path(tiny_model, trajectory) -> None:
    seen = []
    path = latentjac.basis_path(
        tiny_model,
        trajectory,
        near(trajectory, 4),
        2,
        tol=1e-10,
        callback=lambda state: seen.append(state) or len(seen) == 2,
    )
    assert len(path) == 1
    assert path[0].status is Status.INTERRUPTED


def test_several_samples_side_by_side(tiny_model) -> None:
    images = [Image.new("RGB", (16, 16), color) for color in ("orange", "navy")]
    trajectory = latentjac.invert(tiny_model, images, 20, grid=Own(), solver=DDIM())
    path = latentjac.basis_path(tiny_model, trajectory, [0.7, 0.65], 2, tol=1e-6)
    assert path[1].s.shape == (2, 2)
    for i in range(2):
        point = trajectory.at(0.65)
        alone = point.rows(slice(i, i + 1))
        torch.testing.assert_close(path[1].s[i], latentjac.local_basis(tiny_model, alone, 2, tol=1e-6).s)


@pytest.mark.filterwarnings("ignore:basis_path")
@pytest.mark.parametrize("product", [4, 15, 23, 24])
def test_ctrl_c_gives_the_path_so_far(product: int, tiny_model, trajectory, monkeypatch) -> None:
    options = {"k": 2, "tol": 1e-2, "solver": Krylov(block_size=2, confirm=0)}
    whole = latentjac.basis_path(tiny_model, trajectory, near(trajectory, 4), **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, product)
        path = latentjac.basis_path(tiny_model, trajectory, near(trajectory, 4), **options)
    assert 1 <= len(path) < 4
    for basis, expected in zip(path.bases[:-1], whole, strict=False):
        assert torch.equal(basis.v, expected.v)
    # Its length alone is no look at how it ended.
    with pytest.raises(KeyboardInterrupt, match="basis_path: not begun"):
        latentjac.basis_path(tiny_model, trajectory, near(trajectory, 4), **options)
    with monkeypatch.context() as patch:
        interrupt_at(patch, product)
        path = latentjac.basis_path(tiny_model, trajectory, near(trajectory, 4), **options)
    assert "interrupted" in str(path) or len(path) < 4
    assert len(latentjac.basis_path(tiny_model, trajectory, near(trajectory, 4), **options)) == 4


def test_an_unconverged_basis_of_a_path_is_said(tiny_model, trajectory) -> None:
    with pytest.warns(UserWarning, match="^basis_path: out of passes"):
        path = latentjac.basis_path(tiny_model, trajectory, near(trajectory, 1), 3, max_passes=2)
    assert path[0].status is Status.OUT_OF_PASSES
