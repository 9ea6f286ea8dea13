"""The way down the levels."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from networks import build_scheduler, build_tiny_unet, rand

import latentjac
from latentjac.diffusion import Schedule, denoise, descend, predict_noise

X = rand(2, 3, 16, 16)


def test_every_level_is_passed_once_by_ddim_steps(tiny_model) -> None:
    schedule = Schedule.from_scheduler(tiny_model.scheduler, 6)
    way = list(descend(tiny_model, X, schedule, 5, end=2))
    assert [level for level, _ in way] == [5, 4, 3, 2]
    assert torch.equal(way[0][1], X)
    for (level, above), (_, below) in pairwise(way):
        eps = predict_noise(tiny_model, above, schedule.timesteps[level])
        a, b = (schedule.signals[i] ** 2 for i in (level, level - 1))
        torch.testing.assert_close(below, (b / a) ** 0.5 * (above - (1 - a) ** 0.5 * eps) + (1 - b) ** 0.5 * eps)
    assert torch.equal(denoise(tiny_model, X, schedule, 5), list(descend(tiny_model, X, schedule, 5))[-1][1])


def test_no_step_between_levels_of_the_same_power() -> None:
    """The last level of this grid is as clean as the image: the network is not asked there."""
    scheduler = build_scheduler(set_alpha_to_one=False, timestep_spacing="leading")
    model = latentjac.load(build_tiny_unet().double(), scheduler)
    schedule = Schedule.from_scheduler(model.scheduler, 5)
    assert schedule.same(0, 1)
    asked = []
    model.network.register_forward_pre_hook(lambda module, inputs: asked.append(inputs))
    samples = [x for _, x in descend(model, X, schedule, 2)]
    assert len(samples) == 3
    assert len(asked) == 1
    assert torch.equal(samples[1], samples[2])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_prediction_that_is_not_finite_is_refused(value: float) -> None:
    model = latentjac.load(build_tiny_unet().double(), build_scheduler())
    model.network.conv_out.bias[1] = value
    with pytest.raises(latentjac.NonFiniteError, match="network must be finite, got NaN or Inf at timestep 300"):
        predict_noise(model, X, 300)
    schedule = Schedule.from_scheduler(model.scheduler, 6)
    with pytest.raises(latentjac.NonFiniteError, match=f"at timestep {schedule.timesteps[2]}"):
        denoise(model, X, schedule, 2)
