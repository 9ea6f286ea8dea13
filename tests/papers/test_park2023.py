"""latentjac.papers.park2023 from photo to pictures, against the published formulas written as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_tiny_unet
from park2023_loop import Park2023, iterate
from PIL import Image
from truth import dense_jacobian

import latentjac
from latentjac import editing
from latentjac.papers import park2023

STEPS = 20


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_tiny_unet().double(), build_scheduler())


@pytest.fixture(scope="module")
def published(model) -> Park2023:
    return Park2023(model.network, model.scheduler.alphas_cumprod.double(), STEPS)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def path(model, picture) -> latentjac.Trajectory:
    return park2023.invert(model, picture, STEPS)


def test_the_grid(model, published) -> None:
    schedule = park2023.schedule(model.scheduler, 100)
    times = torch.linspace(0, 1, 100) * 999
    assert (schedule.top, schedule.num_inference_steps) == (99, 100)
    assert schedule.timesteps == tuple(times.tolist())
    powers = model.scheduler.alphas_cumprod.double()[times.long()]
    assert schedule.signals == tuple(powers.sqrt().tolist())
    assert schedule.noises == tuple((1 - powers).sqrt().tolist())
    steps_from_noisiest = [99 - schedule.level(t=t) for t in (1.0, 0.8, 0.7, 0.6, 0.2)]
    assert steps_from_noisiest == [0, 20, 30, 40, 79]


def test_inversion_and_the_way_back(published, picture, path) -> None:
    image = (torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1).double()
    x = published.invert(image)
    torch.testing.assert_close(path.samples[-1], x)
    assert path.evaluations == STEPS - 2
    for fraction in (1.0, 0.6, 0.33):
        sample, level = published.descend(x, fraction)
        point = path.at(fraction)
        torch.testing.assert_close(point.sample, sample)
        assert point.timestep == published.times[level].item()
        assert torch.equal(path.at(timestep=point.timestep).sample, point.sample)
    torch.testing.assert_close(path.reconstruction, published.descend(x, 0.0)[0])


def test_the_basis(model, path) -> None:
    """From the same start, the triplets of the published loop with a dense Jacobian at the fractional timestep."""
    point = path.at(0.6)
    jacobian = dense_jacobian(model.feature_map("mid"), point.sample, torch.tensor(point.timestep))
    basis = park2023.local_basis(model, point)
    # A start of its own: once converged, it does not matter up to what the loop's tolerance leaves.
    start = torch.linalg.qr(torch.randn(768, 2, dtype=torch.float64))[0].T
    _, s, v = iterate(jacobian, start, 1e-4)
    assert basis.status in (latentjac.Status.STOPPED, latentjac.Status.OUT_OF_PASSES)
    torch.testing.assert_close(basis.s, s, rtol=1e-4, atol=0)
    torch.testing.assert_close((basis.v.flatten(1) @ v.T).abs().diagonal(), torch.ones(2).double(), rtol=0, atol=1e-3)
    assert basis.metadata["stop"] == "park2023"
    assert 24 <= basis.metadata["passes"] <= 101


@pytest.mark.parametrize(("t", "num_steps"), [(0.6, 6), (0.15, 9)])
def test_the_edit(model, published, path, t: float, num_steps: int) -> None:
    """Frames of both ways; noise drawn in the order of the samples in the result."""
    point = path.at(t)
    x, level = published.descend(path.samples[-1], t)
    v = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    method = park2023.Walk(num_steps=num_steps, gain=3.0, generator=torch.Generator().manual_seed(7))
    result = latentjac.edit(model, point, v, method=method)
    v = v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = []
    for direction in v:
        back, ahead = (published.walk(x, published.times[level], s * direction, 3.0, num_steps) for s in (-1, 1))
        moved += [*back[:0:-1], *ahead]
    moved = torch.cat(moved)
    torch.testing.assert_close(result.points.flatten(0, 1), moved)
    generator = torch.Generator().manual_seed(7)
    finished = published.finish(moved, level, lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype))
    torch.testing.assert_close(result.samples.flatten(0, 1), finished)
    stride = (num_steps + 1) // 4
    last = num_steps // stride * stride
    assert result.distances == tuple(float(d) for d in range(-last, last + 1, stride))
    assert len(result.images) == 2 * len(result.distances)
    assert result.unit == "steps of guidance"


def test_lengths_are_those_up_to_each_frame(model, path) -> None:
    point = path.at(0.6)
    v = torch.ones(3, 16, 16)
    result = latentjac.edit(model, point, v, method=park2023.Walk(num_steps=4, gain=1.0))
    assert result.distances == (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
    sigma = (1 - float(model.scheduler.alphas_cumprod.double()[int(point.timestep)])) ** 0.5
    steps = (result.points[0, 1:] - result.points[0, :-1]).flatten(1).norm(dim=1) / sigma
    expected = [steps[i:4].sum() if i < 4 else steps[4:i].sum() for i in range(9)]
    torch.testing.assert_close(result.along.path[0], torch.stack(expected))
    assert result.along.feature_path[0, 4] == 0
    assert result.along.feature_path[0].argmax() in (0, 8)
    assert result.gains.shape == (4, 1, 9)


def test_the_gain_of_the_scripts_without_text(model, path) -> None:
    result = latentjac.edit(model, path.at(0.6), torch.ones(3, 16, 16), method=park2023.Walk(num_steps=1))
    assert result.gains.unique().tolist() == [0.1]


def test_points_of_its_grid_serve_other_methods(model, path) -> None:
    point = path.at(0.6)
    basis = latentjac.local_basis(model, point, 2, tol=1e-6)
    assert basis.metadata["timestep"] == point.timestep
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 1.0], method=editing.Linear(num_steps=2))
    torch.testing.assert_close(edit.samples[0, 0], path.reconstruction[0])


def test_whole_and_fractional_timesteps_have_their_own_traces(tiny_model, tiny_point, path) -> None:
    whole = latentjac.local_basis(tiny_model, tiny_point, 1, tol=1e-6)
    latentjac.local_basis(tiny_model, path.at(0.6), 1, tol=1e-6)
    again = latentjac.local_basis(tiny_model, tiny_point, 1, tol=1e-6)
    torch.testing.assert_close(whole.s, again.s)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_other_predictions_take_fractional_timesteps(prediction_type: str) -> None:
    scheduler = build_scheduler(prediction_type=prediction_type)
    model = latentjac.load(build_tiny_unet().double(), scheduler)
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    output = model.denoiser().output(x, torch.tensor(400.7))
    a = scheduler.alphas_cumprod[400].double()
    eps = (x - a.sqrt() * output) / (1 - a).sqrt() if prediction_type == "sample" else None
    eps = a.sqrt() * output + (1 - a).sqrt() * x if eps is None else eps
    torch.testing.assert_close(model.eps(x, torch.tensor(400.7)), eps)
