"""Walks of second order against a fine integration by hand, and what they ask of the network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from editing.known import Mix, Network, convolution, linear, model_of, pixelwise, point_for, sigma_at, unit
from networks import point_at, rand

import latentjac
from latentjac.editing import Guidance, HSpace, Linear, Method
from latentjac.editing.evaluations import Evaluations

DISTANCES = (-2.0, -0.5, 0.7, 2.0)


class Bent(torch.nn.Module):
    """Convolutions with a smooth bend between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = convolution(1), convolution(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(2 * self.first(x)))


def bent() -> latentjac.Model:
    return model_of(Network(6, torch.nn.Identity(), Bent()))


def guided_field(model: latentjac.Model, probe: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The unit field that guidance with a probe follows."""

    def field(x: torch.Tensor) -> torch.Tensor:
        change = model.network.head(x + probe) - model.network.head(x)
        return change / change.norm()

    return field


def by_hand(model: latentjac.Model, point: latentjac.Point, v: torch.Tensor, distance: float) -> torch.Tensor:
    """Where a probe of 1 leads, by 100 steps of the classical method of fourth order (Runge and Kutta)."""
    sigma, steps = sigma_at(model), 100
    field = guided_field(model, sigma * v * (1 if distance > 0 else -1))
    x, h = point.sample, abs(distance) * sigma / steps
    for _ in range(steps):
        a = field(x)
        b = field(x + h / 2 * a)
        c = field(x + h / 2 * b)
        x = x + h / 6 * (a + 2 * b + 2 * c + field(x + h * c))
    return x[0]


def test_guidance_errs_with_the_square_of_its_steps() -> None:
    """At the ends of both walks and at distances on the way, within steps and at their ends."""
    model = bent()
    point, v = point_for(model), unit(3, 6, 6)
    fine = torch.stack([by_hand(model, point, v, d) for d in DISTANCES])
    errors = []
    for steps in (20, 40, 80):
        result = latentjac.edit(model, point, v, DISTANCES, method=Guidance(num_steps=steps, diagnostics=False))
        assert result.num_steps == steps
        errors.append((result.points[0] - fine).flatten(1).norm(dim=1))
    for coarse, finer in pairwise(errors):
        assert ((coarse / finer).log2() - 2).abs().max() < 0.35
    bend = fine[-1] - point.sample[0]
    straight = (fine[2] - point.sample[0]) / 0.7 * 2.0
    assert (bend - straight).norm() > 0.05 * bend.norm()  # the walk is no straight line


def test_two_steps_by_hand() -> None:
    """The first step goes straight on; it is corrected, and the second goes on as the first has turned."""
    model = bent()
    point, v, sigma = point_for(model), unit(3, 6, 6), sigma_at(model)
    result = latentjac.edit(model, point, v, 1.5, method=Guidance(num_steps=2, diagnostics=False))
    field, length = guided_field(model, sigma * v), 0.75 * sigma
    first = field(point.sample)
    second = field(point.sample + length * first)
    both, ahead = first + second, 3 * second - first
    expected = point.sample + length * both / both.norm() + length * ahead / ahead.norm()
    assert result.num_steps == 2
    torch.testing.assert_close(result.points[0], expected)


def test_the_shortest_probe_in_single_precision() -> None:
    model = pixelwise(0.5)
    single = point_at(point_for(model).sample.float())
    v = unit(1, 3, 8, 8)[0].float()
    result = latentjac.edit(model.to(dtype=torch.float32), single, v, 0.01, method=Guidance(linearity_tolerance=1e-3))
    assert result.linearity[0].radius < 0.25
    assert float(result.along.path) == pytest.approx(0.01, rel=1e-4)


def test_composed_directions_are_of_second_order_too() -> None:
    model = bent()
    point, v = point_for(model), torch.stack([unit(3, 6, 6), unit(3, 6, 6, seed=4)])
    ends = [
        latentjac.edit(
            model, point, v, [1.5, -1.0], compose=True, method=Guidance(num_steps=n, diagnostics=False)
        ).points[0, 0]
        for n in (10, 20, 160)
    ]
    assert 3.0 < float((ends[0] - ends[2]).norm() / (ends[1] - ends[2]).norm()) < 5.0


def test_distances_on_one_side_are_points_of_one_walk(tiny_model, tiny_point) -> None:
    """Several at once are what each direction, each side and each distance alone are."""
    v = rand(2, 3, 16, 16)
    together = latentjac.edit(tiny_model, tiny_point, v, [1.0, -2.0, 0.0, 2.0], method=Guidance(num_steps=8))
    for i in range(2):
        same = Guidance(num_steps=together.num_steps)
        alone = latentjac.edit(tiny_model, tiny_point, v[i], [2.0, 1.0], method=same)
        torch.testing.assert_close(together.points[i, [3, 0]], alone.points[0], rtol=1e-9, atol=1e-9)
        back = latentjac.edit(tiny_model, tiny_point, v[i], -2.0, method=same)
        torch.testing.assert_close(together.points[i, 1], back.points[0, 0], rtol=1e-9, atol=1e-9)
        assert torch.equal(together.points[i, 2], tiny_point.sample[0])
    assert together.way.ends == (-2.0, 2.0)
    assert together.way.samples.shape[1:3] == (2, 2)
    torch.testing.assert_close(together.along.path, torch.tensor([[1.0, 2.0, 0.0, 2.0]] * 2, dtype=torch.float64))


class Counter:
    """Samples that enter a network, in passes that end and in those that do not."""

    def __init__(self, model: latentjac.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole, self.partial, forward = 0, 0, model.network.forward

        def counted(x: torch.Tensor, *rest: object, **more: object) -> object:
            self.partial += len(x)
            out = forward(x, *rest, **more)
            self.partial -= len(x)
            self.whole += len(x)
            return out

        monkeypatch.setattr(model.network, "forward", counted)


@pytest.mark.parametrize(
    ("method", "whole", "partial"),
    [
        # Five lengths and the point; two a step, of which the first step's were seen; the image.
        (Guidance(num_steps=4), 6 + 2 * 3 + 6, 2 + 1),
        (Guidance(num_steps=4, diagnostics=False), 2 + 2 * 3 + 6, 0),
        (Guidance(num_steps=4, layer="eps"), 6 + 2 * 3 + 6 + 2 + 1, 0),
        (Linear(num_steps=4), 6 + 6, 3 + 2 + 1),
        (Linear(diagnostics=False), 6, 0),
        (HSpace(), 6 + 2 + 6, 0),
        (HSpace(diagnostics=False), 6, 1),
    ],
)
def test_what_one_picture_asks_of_the_network(
    tiny_model, tiny_point, monkeypatch, method: Method, whole: int, partial: int
) -> None:
    """Below the point there are six levels; two features are measured ahead of steps, and one at the end."""
    count = Counter(tiny_model, monkeypatch)
    h = tiny_model.feature_map("mid")(tiny_point.sample, torch.tensor(599))
    count.partial = 0
    direction = rand(*h.shape[1:]) if method.in_features else rand(3, 16, 16)
    latentjac.edit(tiny_model, tiny_point, direction, 1.0, method=method)
    assert (count.whole, count.partial) == (whole, partial)


def test_both_sides_share_the_point(tiny_model, tiny_point, monkeypatch) -> None:
    count = Counter(tiny_model, monkeypatch)
    v = rand(2, 3, 16, 16)
    latentjac.edit(tiny_model, tiny_point, v, [-2.0, -1.0, 1.0, 2.0], method=Guidance(num_steps=8))
    walks, pictures = 4, 8
    assert count.whole == 1 + 5 * walks + 2 * walks * 7 + 6 * pictures
    assert count.partial == (2 + 1) * walks


@pytest.mark.parametrize("method", [Guidance(num_steps=4, diagnostics=False), Linear(diagnostics=False)])
def test_what_was_not_measured_is_none(method: Method) -> None:
    model = pixelwise()
    point, v = point_for(model), unit(3, 8, 8)
    result = latentjac.edit(model, point, v, [-1.0, 2.0], method=method)
    assert result.linearity is result.along is None
    measured = latentjac.edit(model, point, v, [-1.0, 2.0], method=type(method)(num_steps=result.num_steps))
    torch.testing.assert_close(result.samples, measured.samples)
    assert measured.linearity is not None


def test_an_injection_that_was_not_measured() -> None:
    model = linear()
    options = {"model": model, "point": point_for(model), "directions": rand(3, 6, 6), "distance": [-1.0, 2.0]}
    result = latentjac.edit(**options, method=HSpace(diagnostics=False))
    assert result.linearity is result.along is None
    torch.testing.assert_close(result.samples, latentjac.edit(**options, method=HSpace()).samples)


@pytest.mark.parametrize("layer", ["mid", "eps", "x0", "image", "mid+up_blocks.0"])
def test_features_come_by_in_passes_for_noise(tiny_model, tiny_point, layer: str) -> None:
    seen = Evaluations(tiny_model, tiny_point, layer)
    x, ahead = rand(18, 3, 16, 16), rand(2, 3, 16, 16, seed=2)  # more than go through the network at once
    here, there = seen.noise(x, ahead)
    t = torch.tensor(tiny_point.timestep)
    torch.testing.assert_close(here, tiny_model.eps(x, t))
    torch.testing.assert_close(there, tiny_model.eps(ahead, t))
    torch.testing.assert_close(seen.features(x), tiny_model.feature_map(layer)(x, t))
    torch.testing.assert_close(seen.features(ahead), tiny_model.feature_map(layer)(ahead, t))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tiny_model.network.modules())


def test_a_call_of_two_passes_has_no_features_of_one() -> None:
    network = Network(6, Mix(1.0), convolution(1))

    def twice(net: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, c: object) -> torch.Tensor:
        return (net(2 * x, t)[0] + net(x, t)[0]) / 2

    model = model_of(network)
    model.call = twice
    point, x = point_for(model), rand(2, 3, 6, 6)
    seen = Evaluations(model, point, "mid")
    seen.noise(x)
    torch.testing.assert_close(seen.features(x), network.mid(2 * x))  # of the first pass, as everywhere
