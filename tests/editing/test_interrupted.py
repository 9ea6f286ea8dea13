"""Bases inside edits and studies: Ctrl-C ends them, and what did not converge is said of what they give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from editing.known import point_for
from interrupted import interrupt_at
from networks import build_scheduler, build_shallow_unet

import latentjac
from latentjac.editing import Geodesic, Guidance, Linear, Mask, Reestimation, masked_basis, null_space
from latentjac.solvers import Status, decompose
from latentjac.studies import STUDIES, Settings


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_shallow_unet().double(), build_scheduler())


@pytest.fixture(scope="module")
def point(model: latentjac.Model) -> latentjac.Point:
    return point_for(model)


def mask() -> torch.Tensor:
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:5, 2:6] = True
    return inside


BUILT: dict[str, dict[str, Any]] = {
    "mask": {"mask": Mask(mask(), null_rank=2)},
    "energy": {"mask": Mask(mask(), null_energy=0.2)},
    "geodesic": {"method": Geodesic(num_steps=2, k=3)},
    "reestimate": {"method": Guidance(num_steps=2, reestimate=Reestimation(1, k=3))},
}


@pytest.fixture(scope="module")
def directions(model: latentjac.Model, point: latentjac.Point) -> torch.Tensor:
    return latentjac.local_basis(model, point, 3, tol=1e-2).v[:1]


@pytest.mark.parametrize("late", [False, True], ids=["in the first basis", "in the last"])
@pytest.mark.parametrize("kind", BUILT)
def test_ctrl_c_ends_an_edit(kind: str, late: bool, model, point, directions, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        count = interrupt_at(patch)
        found = latentjac.edit(model, point, directions, 0.1, **BUILT[kind])
    assert found.status is Status.CONVERGED
    interrupt_at(monkeypatch, count[0] if late else 4)
    with pytest.raises(KeyboardInterrupt):
        latentjac.edit(model, point, directions, 0.1, **BUILT[kind])
    assert latentjac.local_basis(model, point, 2, tol=1e-2).status is Status.CONVERGED, "nothing is left of it"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes a basis."""
    limits = decompose.Limits
    monkeypatch.setattr(decompose, "Limits", lambda tol, passes, *rest: limits(tol, min(passes, 2), *rest))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["mask", "geodesic", "reestimate"])
def test_what_did_not_converge_is_said(kind: str, model, point, directions) -> None:
    with pytest.warns(UserWarning, match="^edit: out of passes after 2 passes") as caught:
        found = latentjac.edit(model, point, directions, 0.1, **BUILT[kind])
    assert found.status is Status.OUT_OF_PASSES
    assert all(str(w.message).startswith("edit:") for w in caught)


def test_an_edit_without_bases_has_no_status(model, point, directions) -> None:
    assert latentjac.edit(model, point, directions, 0.1, method=Linear()).status is None


@pytest.mark.filterwarnings("ignore:.*interrupted")
@pytest.mark.parametrize("options", [{"rank": 3}, {"energy": 0.2}])
def test_a_null_space_is_a_basis(options: dict[str, Any], model, point, monkeypatch) -> None:
    interrupt_at(monkeypatch, 4)
    with pytest.warns(UserWarning, match="^null_space: interrupted"):
        basis = null_space(model, point, mask(), **options)
    assert basis.status is Status.INTERRUPTED
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        null_space(model, point, mask(), **options)
    with pytest.raises(KeyboardInterrupt):
        null_space(model, point, mask(), **options)


@pytest.mark.filterwarnings("ignore:.*interrupted")
def test_a_masked_basis_is_one(model, point, monkeypatch) -> None:
    interrupt_at(monkeypatch, 4)
    assert masked_basis(model, point, mask(), 3).status is Status.INTERRUPTED


@pytest.mark.parametrize("points", [1, 2])
def test_null_vectors_stay_inside_the_mask(points: int) -> None:
    """A network that looks at one channel alone: a third of the values inside depend on the sample."""

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = {"sample_size": 8, "in_channels": 3}
            self.scale = torch.nn.Parameter(torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64))

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, return_dict: bool = False) -> tuple:
            return (self.scale[:, None, None] * sample,)

    model = latentjac.load(One(), build_scheduler(prediction_type="sample"))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[3, 3:5] = True
    point = point_for(model)
    several = replace(point, sample=point.sample.repeat(points, 1, 1, 1))
    basis = masked_basis(model, several, inside, 6).point(points - 1)
    assert basis.s.tolist() == pytest.approx([2.0, 2.0, 0, 0, 0, 0])
    assert basis.u[:, :, ~inside].abs().max() == 0
    for rows in (basis.u, basis.v):
        gram = rows.flatten(1) @ rows.flatten(1).T
        torch.testing.assert_close(gram, torch.eye(6, dtype=gram.dtype), rtol=0, atol=1e-12)


STUDY = Settings(samples=3, levels=(0.9, 0.6, 0.2), k=2, tol=1e-2, steps=10)


@pytest.mark.parametrize("name", ["coarse-to-fine", "rank", "timesteps"])
def test_ctrl_c_ends_a_study(name: str, model, monkeypatch) -> None:
    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        STUDIES[name].run(model, STUDY)


@pytest.mark.parametrize("passes", [2, 1000])
def test_a_study_says_how_its_bases_ended(passes: int, model, request: pytest.FixtureRequest) -> None:
    settings = Settings(samples=2, levels=(0.9, 0.2), k=2, tol=1e-2, steps=10)
    if passes > 2:
        assert STUDIES["coarse-to-fine"].run(model, settings).status is Status.CONVERGED
        return
    request.getfixturevalue("hurried")
    with pytest.warns(UserWarning, match="^study coarse-to-fine: out of passes"):
        assert STUDIES["coarse-to-fine"].run(model, settings).status is Status.OUT_OF_PASSES
