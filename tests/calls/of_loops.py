"""Valid arguments of public functions: schedules, grids, solvers and the loops of diffusion."""

from __future__ import annotations

from calls.things import Baseline, call, seeded
from networks import rand

import latentjac as lj
from latentjac import diffusion

BASELINES: dict[str, Baseline] = {
    "DDIM": lambda c: call(diffusion.DDIM, refinement=2),
    "Diffusers": lambda c: call(diffusion.Diffusers, eta=0.5),
    "Implicit": lambda c: call(diffusion.Implicit, tol=0.1, most=3),
    "Multistep": lambda c: call(diffusion.Multistep),
    "Own": lambda c: call(diffusion.Own),
    "Uniform": lambda c: call(diffusion.Uniform),
    "Rho": lambda c: call(diffusion.Rho, rho=5.0),
    "Schedule": lambda c: call(
        diffusion.Schedule,
        signals=(1.0, 0.8),
        noises=(0.0, 0.6),
        timesteps=(0, 500),
        num_train_timesteps=1000,
        num_inference_steps=1,
    ),
    "Schedule.from_scheduler": lambda c: call(
        diffusion.Schedule.from_scheduler,
        scheduler=c.model.scheduler,
        num_inference_steps=3,
        grid=diffusion.Rho(),
        solver=diffusion.Multistep(),
        t=0.5,
    ),
    "Schedule.same": lambda c: call(c.schedule.same, level=1, other=2),
    "Schedule.to_dict": lambda c: call(c.schedule.to_dict),
    "Schedule.from_dict": lambda c: call(diffusion.Schedule.from_dict, values=c.schedule.to_dict()),
    "Schedule.level": lambda c: call(c.schedule.level, t=0.5),
    "Schedule.level/timestep": lambda c: call(c.schedule.level, timestep=500),
    "Schedule.step": lambda c: call(
        c.schedule.step, x=rand(1, 3, 4, 4), eps=rand(1, 3, 4, 4), source=2, target=1, noise=rand(1, 3, 4, 4)
    ),
    "Schedule.step/x0": lambda c: call(
        c.schedule.step, x=rand(1, 3, 4, 4), eps=rand(1, 3, 4, 4), source=2, target=1, x0=rand(1, 3, 4, 4)
    ),
    "predict": lambda c: call(
        diffusion.predict, model=c.model, x=c.point.sample, timestep=500, conditioning=lj.Conditioning()
    ),
    "predict_noise": lambda c: call(
        diffusion.predict_noise, model=c.model, x=c.point.sample, timestep=500, conditioning=lj.Conditioning()
    ),
    "descend": lambda c: call(
        diffusion.descend, model=c.model, x=c.point.sample, schedule=c.schedule, level=2, end=0, noisy_below=0
    ),
    "denoise": lambda c: call(
        diffusion.denoise,
        model=c.model,
        x=c.point.sample,
        schedule=c.schedule,
        level=2,
        noisy_below=1,
        generator=seeded(),
    ),
    "linearization_at": lambda c: call(diffusion.linearization_at, model=c.model, point=c.point, layer="mid"),
    "place": lambda c: call(diffusion.place, name="place", model=c.model, point=c.point),
    "render": lambda c: call(diffusion.render, model=c.model, samples=c.point.sample, output_type="pil"),
}
