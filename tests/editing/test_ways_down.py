"""Ways down between those that an edit has gone: half of them is foretold, or none where it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing.known import Network, linear, model_of, point_for, unit
from networks import rand

import latentjac
from latentjac.diffusion import DDIM, Multistep, Rho
from latentjac.editing import Guidance, HSpace, Linear, ways_down
from latentjac.editing.edit import job_of
from latentjac.editing.methods import Job
from latentjac.editing.predicted import Nodes, Predicted
from latentjac.editing.questions import answered
from latentjac.editing.ways_down import way_between, way_down
from latentjac.stopping import Bar

DISTANCES = [-4.0, -2.0, 2.0, 4.0]


class Waves(torch.nn.Module):
    """Up and down many times between any two pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.frequency = torch.nn.Parameter(torch.tensor(40.0, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.frequency * x)


def largest_difference(frames: latentjac.editing.Frames, edit: latentjac.Edit) -> int:
    """In grey levels, between frames and the images of an edit of the same distances."""
    pairs = zip(frames.images, edit.images, strict=True)
    return max(abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max() for a, b in pairs)


def entering(model, monkeypatch) -> list[int]:
    """How many samples enter the network, from now on."""
    batches, network = [], model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda x, *a, **k: batches.append(len(x)) or network(x, *a, **k))
    return batches


def test_in_a_linear_network_every_other_level_is_enough(monkeypatch) -> None:
    model = linear()
    point, v, photo = point_for(model), unit(3, 6, 6), rand(1, 3, 6, 6).sigmoid()
    edit = latentjac.edit(model, point, v, DISTANCES, method=Linear(layer="mid"), photo=photo)
    every = torch.linspace(-4, 4, 9).tolist()
    whole = latentjac.edit(model, point, v, every, method=Linear(layer="mid"), photo=photo)
    batches = entering(model, monkeypatch)
    frames = latentjac.editing.walk_frames(model, point, edit, count=9, unmoved=whole.samples[0, 4:5])
    assert batches == [4] * 3  # of six levels
    assert largest_difference(frames, whole) <= 1


def test_where_pictures_do_not_foretell_each_other_the_whole_way_is_gone(monkeypatch) -> None:
    model = model_of(Network(6, torch.nn.Identity(), Waves()))
    point, v = point_for(model), unit(3, 6, 6)
    edit = latentjac.edit(model, point, v, DISTANCES, method=Linear(layer="mid"), photo=rand(1, 3, 6, 6).sigmoid())
    batches = entering(model, monkeypatch)
    latentjac.editing.walk_frames(model, point, edit, count=9)
    assert batches == [5] * point.level


@pytest.mark.parametrize("options", [{"compose": True}, {"method": HSpace(layer="mid")}], ids=["composed", "HSpace"])
def test_composed_directions_and_features_go_the_whole_way(options, monkeypatch) -> None:
    model = linear()
    point, v = point_for(model), rand(4, 3, 6, 6) if "compose" in options else unit(3, 6, 6)
    options = {"method": Guidance(layer="mid")} | options
    edit = latentjac.edit(model, point, v, DISTANCES, photo=rand(1, 3, 6, 6).sigmoid(), **options)
    batches = entering(model, monkeypatch)
    latentjac.editing.walk_frames(model, point, edit, count=3)
    assert len(batches) >= point.level


def job_at(model, point: latentjac.Point) -> Job:
    return job_of(model, point, unit(*model.sample_shape), 1.0, Linear(), None, False, False)


def gone(job: Job, x: torch.Tensor) -> tuple[torch.Tensor, Predicted]:
    """The whole way down of samples."""
    with torch.no_grad():
        return answered([way_down(job, x)])[0]


@pytest.mark.parametrize("solver", [DDIM(), Multistep()], ids=repr)
@pytest.mark.filterwarnings("ignore:invert")
def test_what_is_known_exactly_leads_where_the_network_does(tiny_model, solver, monkeypatch) -> None:
    path = latentjac.invert(tiny_model, rand(2, 3, 16, 16).sigmoid(), 7, t=0.7, grid=Rho(), solver=solver)
    job = job_at(tiny_model, path.at(0.7).rows(slice(0, 1)))
    clean, predicted = gone(job, path.samples[-1])
    assert predicted.levels == (7, 6, 5, 4, 3, 2, 1)
    batches = entering(tiny_model, monkeypatch)
    again = way_between(job, path.samples[-1], predicted, Bar("frames", 7, shown=False))
    torch.testing.assert_close(again, clean, rtol=0, atol=1e-5)
    assert batches == [2] * 4


@pytest.mark.filterwarnings("ignore:invert")
def test_what_is_known_badly_is_set_right(tiny_model) -> None:
    """By a constant in the levels it is set right wholly: only what changes between them stays."""
    point = latentjac.invert(tiny_model, rand(1, 3, 16, 16).sigmoid(), 8, t=0.7).at(0.7)
    job = job_at(tiny_model, point)
    clean, predicted = gone(job, point.sample)
    wrong = Predicted(predicted.levels, predicted.x0 + rand(3, 16, 16))
    again = way_between(job, point.sample, wrong, Bar("frames", 8, shown=False))
    torch.testing.assert_close(again, clean, rtol=0, atol=1e-5)


def test_too_many_predictions_are_not_kept(monkeypatch) -> None:
    model = linear()
    point, v = point_for(model), unit(3, 6, 6)
    assert latentjac.edit(model, point, v, DISTANCES).predicted is not None
    monkeypatch.setattr(ways_down, "MOST_BYTES", 1000)
    edit = latentjac.edit(model, point, v, DISTANCES)
    assert edit.predicted is None
    assert len(latentjac.editing.walk_frames(model, point, edit, count=9).images) == 9


def nodes(power: int, distances: list[float]) -> Nodes:
    """Of which predictions, at two levels, are powers of the distance."""
    x = torch.tensor(distances, dtype=torch.float64)
    return Nodes.sorted(distances, Predicted((2, 1), torch.stack([x**power, 0.5 * x ** (power - 1)], 1)))


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_polynomials_are_followed_exactly(power: int) -> None:
    known = nodes(power, [6.0, -6.0, 0.0, 3.0, -3.0, 3.0])
    assert known.distances == (-6.0, -3.0, 0.0, 3.0, 6.0)
    x = torch.tensor([-4.5, 0.3, 5.0], dtype=torch.float64)
    expected = torch.stack([x**power, 0.5 * x ** (power - 1)], 1)
    torch.testing.assert_close(known.between(x.tolist()).x0, expected)


def test_nodes_foretell_each_other_where_they_are_enough_and_smooth() -> None:
    assert nodes(2, [-6.0, -3.0, 3.0, 6.0]).foretell()
    assert not nodes(2, [-6.0, 3.0, 6.0]).foretell()
    rough = nodes(2, [-6.0, -3.0, 0.0, 3.0, 6.0])
    assert rough.foretell()
    rough.predicted.x0[1] += 40.0
    assert not rough.foretell()


def test_of_many_nodes_the_nearest_count() -> None:
    known = nodes(1, [float(d) for d in range(-10, 11)])
    known.predicted.x0[0] += 1e6  # far from what is asked for
    torch.testing.assert_close(known.between([7.5]).x0, torch.tensor([[7.5, 0.5]], dtype=torch.float64))
