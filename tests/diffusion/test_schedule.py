"""The grid and the step against diffusers' own schedulers."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from networks import build_scheduler, build_tiny_unet, rand

import latentjac
from latentjac.diffusion import Schedule
from latentjac.papers import park2023

SPACINGS = [
    {"timestep_spacing": "trailing", "set_alpha_to_one": True},
    {"timestep_spacing": "leading", "set_alpha_to_one": False, "steps_offset": 1},
    {"timestep_spacing": "leading", "set_alpha_to_one": True},
]


def model_with(**options: object) -> latentjac.Model:
    return latentjac.load(build_tiny_unet().double(), build_scheduler(**options))


@pytest.mark.parametrize("options", SPACINGS, ids=lambda o: o["timestep_spacing"])
@pytest.mark.parametrize("num_inference_steps", [10, 50, 100])
def test_steps_down_are_those_of_diffusers(options: dict, num_inference_steps: int) -> None:
    model = model_with(**options)
    schedule = Schedule.from_scheduler(model.scheduler, num_inference_steps)
    theirs = DDIMScheduler.from_config(model.scheduler.config)
    theirs.set_timesteps(num_inference_steps)
    assert tuple(reversed(schedule.timesteps[1:])) == tuple(theirs.timesteps.tolist())
    x, eps = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    for level, t in zip(range(num_inference_steps, 0, -1), theirs.timesteps, strict=True):
        expected = theirs.step(eps, t, x).prev_sample
        torch.testing.assert_close(schedule.step(x, eps, level, level - 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", SPACINGS[:1], ids=["trailing"])
def test_steps_up_are_those_of_diffusers(options: dict) -> None:
    model = model_with(**options)
    schedule = Schedule.from_scheduler(model.scheduler, 20)
    theirs = DDIMInverseScheduler.from_config(model.scheduler.config)
    theirs.set_timesteps(20)
    assert schedule.timesteps[1:] == tuple(theirs.timesteps.tolist())
    x, eps = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    for level, t in enumerate(theirs.timesteps, start=1):
        expected = theirs.step(eps, t, x).prev_sample
        torch.testing.assert_close(schedule.step(x, eps, level - 1, level), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", SPACINGS, ids=lambda o: o["timestep_spacing"])
@pytest.mark.parametrize("num_inference_steps", [1, 7, 30, 999, 1000])
def test_up_and_down_walk_the_same_levels(options: dict, num_inference_steps: int) -> None:
    schedule = Schedule.from_scheduler(model_with(**options).scheduler, num_inference_steps)
    assert len(schedule.signals) == len(schedule.noises) == schedule.top + 1
    assert all(a >= b for a, b in pairwise(schedule.signals))
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    eps = torch.randn_like(x)
    for level in range(1, schedule.top + 1):
        there = schedule.step(x, eps, level - 1, level)
        torch.testing.assert_close(schedule.step(there, eps, level, level - 1), x)


def test_level_by_fraction_and_by_timestep() -> None:
    schedule = Schedule.from_scheduler(model_with().scheduler, 10)
    assert schedule.timesteps[schedule.level(t=0.6)] == 599
    assert schedule.level(t=1.0) == 10
    assert schedule.level(t=0.0) == 1
    assert schedule.level(timestep=410) == 4


def test_clipping_is_switched_off() -> None:
    schedule = Schedule.from_scheduler(model_with(clip_sample=True).scheduler, 10)
    x = torch.full((1, 3, 4, 4), 9.0, dtype=torch.float64)
    assert schedule.step(x, torch.zeros_like(x), 5, 0).max() > 9


def test_every_number_of_steps_gives_a_grid_inside_the_schedule() -> None:
    """Diffusers itself emits a timestep of -1 for 62 of them with trailing spacing."""
    model = model_with()
    for n in range(1, 1001):
        schedule = Schedule.from_scheduler(model.scheduler, n)
        assert schedule.top == n
        assert schedule.timesteps[1] >= 0
        assert all(a > b for a, b in pairwise(schedule.signals))


def test_other_noise_than_variance_preserving() -> None:
    """The same step is Euler's for flow matching and for variance exploding levels."""
    x0, eps = rand(2, 1, 3, 4, 4)
    flow = Schedule((1.0, 0.7, 0.0), (0.0, 0.3, 1.0), (0, 300, 999))
    x = 0.7 * x0 + 0.3 * eps
    torch.testing.assert_close(flow.step(x, eps, 1, 2), x + 0.7 * (eps - x0))
    torch.testing.assert_close(flow.step(eps, eps, 2, 1, x0=x0), x)
    with pytest.raises(ValueError, match="step: x0 must be given where source = 2 has no signal"):
        flow.step(eps, eps, 2, 1)
    exploding = Schedule((1.0, 1.0, 1.0), (0.0, 2.0, 80.0), (0, 1, 2), 3)
    torch.testing.assert_close(exploding.step(x0 + 80 * eps, eps, 2, 1), x0 + 2 * eps)


def test_an_ancestral_step_has_the_noise_of_its_level() -> None:
    """Given the clean sample, what arrives is independent noise and kept noise of the right variance in all."""
    for schedule in (Schedule((1, 0.8, 0.6), (0, 0.6, 0.8), (0, 1, 2)), Schedule((1, 1, 1), (0, 2, 5), (0, 1, 2))):
        zero, one = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
        fresh = float(schedule.step(zero, zero, 2, 1, one))
        kept = float(schedule.step(zero, one, 2, 1, zero, x0=zero))
        assert fresh**2 + kept**2 == pytest.approx(schedule.noises[1] ** 2)
        posterior = schedule.noises[2] ** 2 - (schedule.signals[2] / schedule.signals[1] * schedule.noises[1]) ** 2
        assert fresh**2 == pytest.approx(posterior * (schedule.noises[1] / schedule.noises[2]) ** 2)


def test_a_schedule_comes_back_from_plain_values() -> None:
    for schedule in (Schedule.from_scheduler(build_scheduler(), 7), park2023.schedule(build_scheduler(), 7)):
        values = json.loads(json.dumps(schedule.to_dict()))
        assert Schedule.from_dict(values) == schedule
        assert Schedule.from_dict(values).timesteps == schedule.timesteps
    assert repr(schedule) == "Schedule(6 levels, timesteps 166.5 to 999 of 1000)"
