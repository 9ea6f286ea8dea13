"""Where levels lie."""

from __future__ import annotations

from itertools import pairwise

import diffusers
import pytest
import torch
from networks import build_scheduler

import latentjac
from latentjac.diffusion import DDIM, Multistep, Own, Rho, Schedule, Uniform

SCHEDULERS = {
    "table": build_scheduler(),
    "zero snr": diffusers.DDPMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
    "flow": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "exploding": diffusers.ScoreSdeVeScheduler(sigma_max=50.0),
    "edm": diffusers.EDMEulerScheduler(),
}


@pytest.mark.parametrize("t", [1.0, 0.7])
@pytest.mark.parametrize("grid", [Rho(), Rho(3), Uniform()], ids=str)
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_levels_rise_from_the_cleanest_to_the_one_asked_for(kind: str, grid, t: float) -> None:
    scheduler = SCHEDULERS[kind]
    whole = Schedule.from_scheduler(scheduler, 1000 if kind == "flow" else 7)
    for steps in (1, 2, 13, 200):
        schedule = Schedule.from_scheduler(scheduler, steps, grid=grid, t=t)
        assert schedule.top == schedule.num_inference_steps == steps
        assert all(a < b for a, b in pairwise(schedule.timesteps))
        assert schedule.timesteps[0] == (1 if kind == "flow" else 0)
        table = kind in ("table", "zero snr")
        assert schedule.timesteps[-1] == (999 if table and t == 1 else scheduler.config.num_train_timesteps * t)
        assert schedule.noises[0] > 0
    if t == 1:
        assert (schedule.signals[-1], schedule.noises[-1]) == pytest.approx((whole.signals[-1], whole.noises[-1]))


def test_rho_spaces_the_root_of_the_ratio_evenly() -> None:
    schedule = Schedule.from_scheduler(SCHEDULERS["edm"], 10, grid=Rho(5), t=0.8)
    roots = torch.tensor([n / a for n, a in zip(schedule.noises, schedule.signals, strict=True)]).double() ** (1 / 5)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(10), rtol=1e-4, atol=1e-6)
    # Karras et al. place their levels so, with rho = 7.
    own = Schedule.from_scheduler(SCHEDULERS["edm"], 11, grid=Own())
    assert Schedule.from_scheduler(SCHEDULERS["edm"], 10, grid=Rho()).noises == pytest.approx(own.noises[1:], rel=1e-4)


def test_the_last_of_the_own_levels_is_the_nearest() -> None:
    schedule = Schedule.from_scheduler(build_scheduler(), 10, t=0.62)
    assert schedule.timesteps == (0, 99, 199, 299, 399, 499, 599)
    assert schedule.until == 0.62


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_inference_steps must be at most the 10 timesteps .* t = 0.01, got 11"):
        Schedule.from_scheduler(build_scheduler(), 11, grid=Rho(), t=0.01)
    with pytest.raises(ValueError, match=r"t must lie above the cleanest timestep 1, got 0\.001"):
        Schedule.from_scheduler(SCHEDULERS["flow"], 1, grid=Uniform(), t=0.001)


@pytest.mark.filterwarnings("ignore:invert")
def test_nothing_lies_above_the_end(own_model, tmp_path) -> None:
    path = latentjac.invert(own_model, torch.rand(3, 16, 16), 6, t=0.7)
    assert path.at(0.7).timestep == path.at(timestep=700).timestep == 700
    assert path.at(0.7).schedule.solver == Multistep()
    for found in (path, latentjac.Trajectory.load(path.save(tmp_path / "t.safetensors"))):
        with pytest.raises(
            ValueError, match=r"at: t must be at most 0.7, where the levels end \(invert\(..., t=0.7\)\)"
        ):
            found.at(0.71)
        with pytest.raises(ValueError, match=r"at: timestep must be at most 700, where .*got 701"):
            found.at(timestep=701)


def test_a_schedule_of_before_is_read() -> None:
    schedule = Schedule.from_scheduler(build_scheduler(), 5, grid=Rho(), solver=Multistep(), t=0.5)
    values = schedule.to_dict()
    assert Schedule.from_dict(values) == schedule
    del values["until"], values["solver"]
    old = Schedule.from_dict(values)
    assert (old.until, old.solver) == (1.0, DDIM())
