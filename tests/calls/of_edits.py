"""Valid arguments of public functions: ways from a picture to an edit."""

from __future__ import annotations

from dataclasses import replace

import torch
from calls.things import Baseline, call, counted, seeded
from networks import rand
from PIL import Image

import latentjac as lj
from latentjac import diffusion, editing, geometry, models
from latentjac.papers import park2023

BASELINES: dict[str, Baseline] = {
    "load": lambda c: call(lj.load, source=str(c.pipeline)),
    "load/network": lambda c: call(
        lj.load, source=counted().network, scheduler=c.model.scheduler, device="cpu", dtype=torch.float64
    ),
    "limits": lambda c: call(lj.limits, max_seconds=9.0, max_memory=10**9, stop=bool, progress=print),
    "builtin_models": lambda c: call(lj.builtin_models),
    "prepare_image": lambda c: call(lj.prepare_image, image=c.picture, size=4, crop=(0, 0, 2, 2)),
    "open_image": lambda c: call(models.open_image, path=c.photo),
    "to_frames": lambda c: call(models.to_frames, videos=rand(1, 3, 2, 4, 4).sigmoid()),
    "to_pil": lambda c: call(models.to_pil, pictures=rand(1, 3, 4, 4).sigmoid()),
    "resolve_layer": lambda c: call(models.resolve_layer, network=c.model.network, layer="mid", aliases={"h": "mid"}),
    "invert": lambda c: call(lj.invert, model=c.model, image=c.picture, num_inference_steps=3),
    "invert/text": lambda c: call(
        lj.invert,
        model=c.text,
        image=Image.new("RGB", (16, 16)),
        num_inference_steps=1,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
        t=0.7,
        grid=diffusion.Uniform(),
        solver=diffusion.Implicit(0.5),
        estimate_error=True,
    ),
    "noise_point": lambda c: call(
        lj.noise_point, model=c.model, num_images=2, num_inference_steps=3, generator=seeded()
    ),
    "noise_point/text": lambda c: call(
        lj.noise_point, model=c.text, prompt=["a"], guidance_scale=2.0, generator=seeded()
    ),
    "noise_point/class": lambda c: call(
        lj.noise_point,
        model=c.classes,
        class_label=[1],
        negative_class_label=0,
        guidance_scale=2.0,
        generator=seeded(),
    ),
    "Classes": lambda c: call(models.Classes, count=3, null=0),
    "sample": lambda c: call(lj.sample, model=c.model, num_inference_steps=3, generator=seeded()),
    "sample/point": lambda c: call(lj.sample, model=c.model, point=c.point, output_type="pt"),
    "sample/text": lambda c: call(
        lj.sample,
        model=c.text,
        num_inference_steps=1,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
        generator=seeded(),
        output_type="latent",
    ),
    "Point": lambda c: call(
        lj.Point,
        sample=c.point.sample,
        level=2,
        schedule=c.schedule,
        conditioning=lj.Conditioning(),
    ),
    "Point.split": lambda c: call(c.many.split),
    "Point.rows": lambda c: call(c.many.rows, index=slice(1)),
    "Point.to": lambda c: call(c.point.to, device="cpu", dtype=torch.float32),
    "Point.save": lambda c: call(c.point.save, path=c.folder / "p.safetensors"),
    "Point.load": lambda c: call(lj.Point.load, path=c.saved_point),
    "Trajectory.save": lambda c: call(c.path.save, path=c.folder / "t.safetensors"),
    "Trajectory.load": lambda c: call(lj.Trajectory.load, path=c.saved_path),
    "Point.with_prompt": lambda c: call(
        replace(c.point, sample=rand(1, 4, 8, 8).float()).with_prompt,
        model=c.text,
        prompt="a",
        negative_prompt="b",
        guidance_scale=2.0,
    ),
    "Trajectory.at": lambda c: call(c.path.at, t=0.5),
    "Trajectory.at/timestep": lambda c: call(c.path.at, timestep=500),
    "edit": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v,
        distance=0.2,
        method=editing.Guidance(num_steps=2, linearity_tolerance=0.5),
    ),
    "edit/mask": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=[0.2],
        method=editing.Guidance(num_steps=2),
        mask=editing.Mask(c.mask, null_rank=1, tol=0.5),
    ),
    "edit/array": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=(0.2,),
        method=editing.Linear(num_steps=1),
        mask=c.mask.numpy(),
    ),
    "edit/geodesic": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v[:1],
        distance=0.1,
        method=editing.Geodesic(num_steps=1, k=2, tol=0.5),
    ),
    "edit/h-space": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.u[:1],
        distance=0.2,
        method=editing.HSpace(inject="point", asymmetric=True),
    ),
    "edit/compose": lambda c: call(
        lj.edit,
        model=c.model,
        point=c.point,
        directions=c.v,
        distance=[0.2, 0.1],
        method=editing.Guidance(num_steps=2),
        compose=True,
    ),
    "edit/park2023": lambda c: call(
        lj.edit, model=c.model, point=c.of_park2023, directions=c.v[0], method=park2023.Walk(num_steps=3, gain=0.1)
    ),
    "Guidance": lambda c: call(
        editing.Guidance, num_steps=2, prompt="a", layer="mid", linearity_tolerance=0.5, reestimate=2
    ),
    "Reestimation": lambda c: call(editing.Reestimation, every=2, k=2, tol=0.5),
    "Linear": lambda c: call(editing.Linear, num_steps=2, prompt="a", layer="mid", linearity_tolerance=0.5),
    "Geodesic": lambda c: call(
        editing.Geodesic,
        num_steps=2,
        prompt="a",
        layer="mid",
        linearity_tolerance=0.5,
        transport="pseudoinverse",
        k=2,
        tol=0.5,
    ),
    "HSpace": lambda c: call(editing.HSpace, layer="mid", inject="point", asymmetric=True, linearity_tolerance=0.5),
    "Mask": lambda c: call(editing.Mask, inside=c.mask, null_rank=1, tol=0.5),
    "Mask/energy": lambda c: call(editing.Mask, inside=c.mask.numpy(), null_energy=0.5),
    "walk_frames": lambda c: call(
        lj.editing.walk_frames,
        model=c.model,
        point=c.point,
        edit=c.edited,
        direction=1,
        count=3,
        unmoved=c.path.reconstruction,
    ),
    "walk_frames/distances": lambda c: call(
        lj.editing.walk_frames, model=c.model, point=c.point, edit=c.edited, distances=[-0.1, 0.05]
    ),
    "Edit.image": lambda c: call(c.edited.image, direction=0, distance=1),
    "Way.at": lambda c: call(c.edited.way.at, fraction=0.5),
    "measure_linearity": lambda c: call(
        geometry.measure_linearity, model=c.model, point=c.point, directions=c.v, sigma=0.5, tolerance=0.1
    ),
    "masked_basis": lambda c: call(
        lj.editing.masked_basis, model=c.model, point=c.point, mask=c.mask, k=2, layer="x0", tol=0.5
    ),
    "masked_basis/several": lambda c: call(
        lj.editing.masked_basis, model=c.model, point=c.many, mask=[c.mask, c.mask.numpy()], k=2, tol=0.5
    ),
    "null_space": lambda c: call(lj.editing.null_space, model=c.model, point=c.point, mask=c.mask, rank=2, tol=0.5),
    "null_space/energy": lambda c: call(
        lj.editing.null_space, model=c.model, point=c.point, mask=c.mask, energy=0.1, tol=0.5
    ),
    "project_out": lambda c: call(lj.editing.project_out, v=c.v[:1] + c.v[1:], directions=c.v[1:]),
}
