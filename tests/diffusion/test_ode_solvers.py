"""Solvers of the probability flow: a Gaussian whose solution is known, and the schedulers of diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable

import diffusers
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from networks import build_scheduler, build_shallow_unet, rand

import latentjac
from latentjac.diffusion import DDIM, Implicit, InversionStatus, Multistep, Own, Rho, Schedule, Uniform, descend
from latentjac.diffusion.loops import down, up
from latentjac.models import Prediction

FLOW, EDM = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.EDMEulerScheduler
MEAN = rand(1, 3, 4, 4) / 2
SPREAD = rand(1, 3, 4, 4, seed=2).sigmoid()  # standard deviations of the data


def predict_for(schedule: Schedule) -> Callable[[torch.Tensor, int], Prediction]:
    """Of data that are normal with MEAN and SPREAD."""

    def predict(x: torch.Tensor, level: int) -> Prediction:
        a, s = schedule.signals[level], schedule.noises[level]
        x0 = MEAN + a * SPREAD**2 / (a**2 * SPREAD**2 + s**2) * (x - a * MEAN)
        return Prediction(x0, (x - a * x0) / s)

    return predict


def exact(x: torch.Tensor, schedule: Schedule, source: int, target: int) -> torch.Tensor:
    """The probability flow of these data: deviations from the mean grow as their standard deviation does."""
    a, s, b, r = (values[i] for i in (source, target) for values in (schedule.signals, schedule.noises))
    deviation = [(signal**2 * SPREAD**2 + noise**2).sqrt() for signal, noise in ((a, s), (b, r))]
    return b * MEAN + deviation[1] / deviation[0] * (x - a * MEAN)


def errors(schedule: Schedule) -> tuple[float, float]:
    """Of the way up, and of the way down from where it should end."""
    predict = predict_for(schedule)
    clean = MEAN + SPREAD * rand(1, 3, 4, 4, seed=3)
    noisy = exact(clean, schedule, 0, schedule.top)
    found = [x for _, x in up(clean, schedule, schedule.solver.up(schedule, predict))][-1]
    back = [x for _, x in down(noisy, schedule, schedule.top, predict)][-1]
    return float((found - noisy).norm() / noisy.norm()), float((back - clean).norm() / clean.norm())


@pytest.mark.parametrize(("solver", "order"), [(DDIM(30), 1), (Implicit(1e-9, 50), 1), (Multistep(), 2)], ids=str)
@pytest.mark.parametrize("scheduler", [FLOW(), EDM()], ids=["flow", "edm"])
@pytest.mark.parametrize("grid", [Rho(), Uniform()], ids=str)
def test_the_error_falls_with_the_order(solver, order: int, scheduler, grid) -> None:
    """On levels that lie anywhere, twice as many steps leave half the error, or a quarter of it."""
    t = 0.6 if grid == Rho() else 0.3
    steps = (64, 128) if grid == Rho() else (256, 512)
    coarse, fine = (errors(Schedule.from_scheduler(scheduler, n, grid=grid, solver=solver, t=t)) for n in steps)
    for few, many in zip(coarse, fine, strict=True):
        assert math.log2(few / many) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize(
    "scheduler",
    [
        build_scheduler(),
        FLOW(),
        diffusers.DDPMScheduler(
            rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
        ),
        diffusers.ScoreSdeVeScheduler(sigma_max=50.0),
    ],
    ids=["table", "flow", "zero snr", "exploding"],
)
@pytest.mark.parametrize("grid", [Rho(), Own()], ids=str)
def test_second_order_is_nearer_than_first_to_the_top(scheduler, grid) -> None:
    """Also over levels without noise or without signal."""
    first, second = (
        errors(Schedule.from_scheduler(scheduler, 40, grid=grid, solver=solver)) for solver in (DDIM(20), Multistep())
    )
    assert second[0] < first[0] / 2
    if grid == Rho():
        assert second[1] < first[1] / 4


@torch.no_grad()
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_samples_are_those_of_diffusers(prediction_type: str) -> None:
    options = {"use_flow_sigmas": True, "flow_shift": 2.0} if prediction_type == "flow_prediction" else {}
    scheduler = DPMSolverMultistepScheduler(
        prediction_type=prediction_type, timestep_spacing="trailing", final_sigmas_type="zero", **options
    )
    model = latentjac.load(build_shallow_unet().double(), scheduler)
    generator = torch.Generator().manual_seed(3)
    point = latentjac.noise_point(model, num_inference_steps=9, generator=generator, solver=Multistep())
    theirs = DPMSolverMultistepScheduler.from_config(scheduler.config)
    theirs.set_timesteps(9)
    x = point.sample
    for t in theirs.timesteps:
        x = theirs.step(model.network(x, t).sample, t, x).prev_sample.double()
    ours = latentjac.sample(model, point, output_type="latent")
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)
    other = latentjac.Point(point.sample, 9, Schedule.from_scheduler(scheduler, 9))  # of first order
    assert not torch.allclose(latentjac.sample(model, other, output_type="latent"), ours, rtol=1e-2, atol=1e-2)


def test_an_implicit_inversion_comes_back_and_counts(own_model) -> None:
    """Samples that enter the network are counted by a hook."""
    asked: list[int] = []
    own_model.network.register_forward_pre_hook(lambda module, inputs: asked.append(len(inputs[0])))
    own_model.network.conv_out.weight.data.mul_(0.1)  # nearly linear, so that the iteration contracts
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for solver, least in ((Implicit(1e-4, 60), 60), (Multistep(), 0)):
        asked.clear()
        path = latentjac.invert(own_model, pictures, 10, solver=solver, t=0.7)
        assert sum(asked) == 2 * (path.evaluations + 10)
        assert min(path.psnr) > least
    assert path.evaluations == 10
    assert path.status == (InversionStatus.EXPLICIT,) * 2


@pytest.mark.filterwarnings("ignore:invert")
def test_pictures_are_solved_each_alone(own_model) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both = latentjac.invert(own_model, pictures, 6, solver=Implicit(1e-3), t=0.7)
    alone = latentjac.invert(own_model, pictures[1], 6, solver=Implicit(1e-3), t=0.7)
    torch.testing.assert_close(both.samples[:, 1:], alone.samples)


def test_what_does_not_converge_is_said() -> None:
    """A network that wants the more the more it gets: no iteration of one evaluation solves it."""
    network = build_shallow_unet(size=8).double()
    network.conv_out.weight.data.mul_(30)
    model = latentjac.load(network, build_scheduler())
    with pytest.warns(UserWarning, match=r"invert: picture 0: .*; picture 1: .* dB"):
        path = latentjac.invert(model, torch.rand(2, 3, 8, 8), 8, solver=Implicit(1e-6, most=2))
    assert not any(entry.fine for entry in path.status)
    assert "picture" in repr(path)


def test_stochastic_steps_are_of_first_order(tiny_model) -> None:
    x = rand(1, 3, 16, 16)
    schedules = [Schedule.from_scheduler(tiny_model.scheduler, 4, solver=solver) for solver in (DDIM(), Multistep())]
    ways = [
        list(descend(tiny_model, x, s, 4, noisy_below=2, generator=torch.Generator().manual_seed(0))) for s in schedules
    ]
    assert torch.equal(ways[0][-1][1], ways[1][-1][1])
