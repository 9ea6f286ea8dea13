"""Valid arguments of public functions: models, conditionings, codecs and linearizations."""

from __future__ import annotations

import torch
from calls.things import Baseline, call, counted, seeded, sound_latents, video_latents
from networks import rand

import latentjac as lj
from latentjac import models, report

BASELINES: dict[str, Baseline] = {
    "Conditioning": lambda c: call(
        lj.Conditioning,
        tensors={"text": rand(2, 3)},
        guidance=models.ClassifierFree(lj.Conditioning({"text": rand(1, 3)}), 2.0),
    ),
    "Conditioning.rows": lambda c: call(c.conditioning.rows, index=slice(1)),
    "Conditioning.expand": lambda c: call(c.conditioning.expand, count=2),
    "Conditioning.split": lambda c: call(c.conditioning.split, size=1, count=2),
    "Conditioning.to": lambda c: call(c.conditioning.to, device="cpu", dtype=torch.float64),
    "Conditioning.unguided": lambda c: call(c.conditioning.unguided),
    "Conditioning.flat": lambda c: call(c.conditioning.flat),
    "Conditioning.from_flat": lambda c: call(lj.Conditioning.from_flat, tensors=c.conditioning.flat()),
    "ClassifierFree": lambda c: call(models.ClassifierFree, negative=lj.Conditioning({"text": rand(1, 3)}), scale=2.0),
    "ClassifierFree/rows": lambda c: call(
        models.ClassifierFree, negative=lj.Conditioning({"text": rand(1, 3)}), scale=torch.tensor([2.0, 3.0])
    ),
    "ClassifierFree.others": lambda c: call(c.conditioning.guidance.others),
    "ClassifierFree.scales": lambda c: call(c.conditioning.guidance.scales),
    "ClassifierFree.flat": lambda c: call(c.conditioning.guidance.flat),
    "ImageGuidance": lambda c: call(
        models.ImageGuidance,
        negative=lj.Conditioning({"text": rand(1, 3)}),
        without=lj.Conditioning({"text": rand(1, 3)}),
        scale=2.0,
        image_scale=torch.tensor([1.5]),
    ),
    "ImageGuidance.others": lambda c: call(c.by_image.others),
    "ImageGuidance.scales": lambda c: call(c.by_image.scales),
    "RescaledGuidance": lambda c: call(
        models.RescaledGuidance, negative=lj.Conditioning({"text": rand(1, 3)}), scale=2.0, rescale=torch.tensor([0.5])
    ),
    "RescaledGuidance.scales": lambda c: call(c.rescaled.scales),
    "Denoiser.predict": lambda c: call(c.model.denoiser().predict, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.output": lambda c: call(c.model.denoiser().output, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.eps": lambda c: call(c.model.denoiser().eps, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.x0": lambda c: call(c.model.denoiser().x0, x=c.point.sample, t=torch.tensor(500)),
    "Denoiser.output/guided": lambda c: call(
        c.text.denoiser(c.conditioning).output, x=rand(2, 4, 8, 8).float(), t=torch.tensor(500)
    ),
    "Model": lambda c: call(
        lj.Model,
        network=counted().network,
        scheduler=c.model.scheduler,
        call=lambda network, x, t, conditioning: network(x, t)[0],
        layers={"inner": "mid"},
        sample_shape=(3, 4, 4),
        name="own",
    ),
    "Model.conditioning": lambda c: call(
        c.text.conditioning, prompt=["a", "b"], negative_prompt="c", guidance_scale=2.0
    ),
    "Model.conditioning/rescaled": lambda c: call(
        c.text.conditioning, prompt=["a", "b"], guidance_scale=2.0, guidance_rescale=0.5
    ),
    "Model.conditioning/none": lambda c: call(c.model.conditioning, prompt=None),
    "Model.denoiser": lambda c: call(c.text.denoiser, conditioning=c.conditioning),
    "Model.resolve_layer": lambda c: call(c.model.resolve_layer, layer="mid"),
    "Model.part_at": lambda c: call(c.model.part_at, t=torch.tensor(500)),
    "Model.eps": lambda c: call(c.model.eps, x=c.point.sample, t=torch.tensor(500), conditioning=lj.Conditioning()),
    "Model.x0": lambda c: call(c.model.x0, x=c.point.sample, t=torch.tensor(500), conditioning=lj.Conditioning()),
    "Model.feature_map": lambda c: call(c.model.feature_map, layer="mid"),
    "Model.linearization": lambda c: call(
        c.model.linearization,
        layer="mid",
        x=c.point.sample,
        t=torch.tensor(500),
        conditioning=lj.Conditioning(),
        mask=None,
        backend="auto",
    ),
    "Model.to": lambda c: call(counted().to, device="cpu", dtype=torch.float64),
    "Model.identity": lambda c: call(c.model.identity),
    "Linearization.jvp": lambda c: call(c.lin.jvp, v=rand(2, 1, 6)),
    "Linearization.vjp": lambda c: call(c.lin.vjp, u=rand(2, 1, 6)),
    "ProgramLinearization.rebase": lambda c: call(c.lin.at(c.lin.x).rebase, x=rand(1, 6), constants=()),
    "AutodiffLinearization.rebase": lambda c: call(c.autodiff.at(c.autodiff.x).rebase, x=rand(1, 6), constants=()),
    "Linearization.at": lambda c: call(c.autodiff.at, x=rand(1, 6), constants=()),
    "ProgramLinearization.at": lambda c: call(c.lin.at, x=rand(1, 6), constants=()),
    "ProgramLinearization.restriction_cost": lambda c: call(c.lin.at(c.lin.x).restriction_cost, count=1),
    "Estimate.times": lambda c: call(c.rank.energy.times, factors=(2.0,)),
    "Linearization.restrict": lambda c: call(c.lin.at(c.lin.x).restrict, points=[0]),
    "Linearization.restriction_cost": lambda c: call(c.autodiff.at(c.autodiff.x).restriction_cost, count=1),
    "ProgramLinearization.prepare": lambda c: call(c.lin.prepare, probes=2),
    "Linearization.prepare": lambda c: call(c.autodiff.prepare, probes=2),
    "Linearization.check_adjoint": lambda c: call(c.lin.check_adjoint, generator=seeded()),
    "Linearization.to_scipy": lambda c: call(c.lin.to_scipy),
    "JointLinearization.jvp": lambda c: call(c.joint.jvp, v=(rand(2, 1, 6), rand(2, 1, 1))),
    "JointLinearization.vjp": lambda c: call(c.joint.vjp, u=(rand(2, 1, 6), rand(2, 1, 1))),
    "JointLinearization.split_x": lambda c: call(c.joint.split_x, rows=rand(2, 7)),
    "JointLinearization.split_y": lambda c: call(c.joint.split_y, rows=rand(2, 7)),
    "JointLinearization.rebase": lambda c: call(c.joint.rebase, x=(rand(1, 6), rand(1, 1)), constants=()),
    "JointLinearization.check_adjoint": lambda c: call(c.joint.check_adjoint, generator=seeded()),
    "Linearization.recorder": lambda c: call(c.lin.recorder),
    "ProgramLinearization.recorder": lambda c: call(c.lin.recorder),
    "decoder_map": lambda c: call(lj.models.decoder_map, model=c.model),
    "PixelCodec.encode": lambda c: call(c.model.codec.encode, images=[c.picture]),
    "PixelCodec.decode": lambda c: call(c.model.codec.decode, samples=rand(1, 3, 4, 4)),
    "VideoCodec.encode": lambda c: call(models.VideoCodec((2, 4, 4)).encode, videos=[c.picture, c.picture]),
    "VideoCodec.decode": lambda c: call(models.VideoCodec((2, 4, 4)).decode, samples=rand(1, 3, 2, 4, 4)),
    "VideoLatentCodec.encode": lambda c: call(video_latents().encode, videos=[c.picture] * 5),
    "VideoLatentCodec.decode": lambda c: call(video_latents().decode, samples=rand(1, 4, 2, 2, 2).float()),
    "SoundCodec.encode": lambda c: call(sound_latents().encode, waves=rand(1, 2, 16).tanh()),
    "SoundCodec.decode": lambda c: call(sound_latents().decode, samples=rand(1, 4, 4).float()),
    "LatentCodec.encode": lambda c: call(c.text.codec.encode, images=[c.picture]),
    "LatentCodec.decode": lambda c: call(c.text.codec.decode, samples=rand(1, 4, 8, 8).float()),
    "T5TextEncoder.tensors": lambda c: call(c.t5.text.tensors, prompts=["a", "b"]),
    "TextEncoder.tensors": lambda c: call(c.text.text.tensors, prompts=["a", "b"]),
    "TextEncoder.encode": lambda c: call(c.text.text.encode, prompts=["a", "b"]),
    "write_png": lambda c: call(report.write_png, path=c.folder / "a.png", image=c.picture),
}
