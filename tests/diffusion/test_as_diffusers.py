"""Pictures of noise are those of diffusers' own pipeline, by every scheduler that it exports."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    ConsistencyModelPipeline,
    DDIMPipeline,
    DDPMPipeline,
    PNDMPipeline,
    ScoreSdeVePipeline,
    UNet2DModel,
)
from diffusers.schedulers import scheduling_dpm_cogvideox
from every_scheduler import NAMES, made
from image_transformers import build_sana
from networks import build_scheduler, build_tiny_unet
from pipelines import build_stable_diffusion, build_stable_diffusion_3
from video_pipelines import build_cogvideox

import latentjac
from latentjac.diffusion import DDIM, Diffusers, Multistep, Rho, Schedule
from latentjac.models.levels import Flow
from latentjac.models.schedulers import levels_of

PROMPTS, AWAY, STEPS = ["a red cat", "a dog"], "blue", 4
SETTINGS: list[dict[str, Any]] = [
    {"use_karras_sigmas": True},
    {"timestep_spacing": "linspace"},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    {"algorithm_type": "sde-dpmsolver++"},
    {"stochastic_sampling": True},
]
# Called in another way than others, by pipelines of their own: see below.
APART = ("ScoreSdeVeScheduler", "UnCLIPScheduler", "CogVideoXDPMScheduler", "SCMScheduler")


def known_to(name: str, options: dict[str, Any]) -> bool:
    kind = getattr(diffusers, name)
    if not options.keys() <= inspect.signature(kind).parameters.keys():
        return False
    return not (name.startswith(("DEIS", "SA")) and "algorithm_type" in options)  # they have others


def cases() -> list[Any]:
    found = []
    for name in NAMES:
        for options in [{}, *(options for options in SETTINGS if known_to(name, options))]:
            shown = " ".join(f"{key}={value}" for key, value in options.items())
            found.append(pytest.param(name, options, id=f"{name} {shown}".strip()))
    return found


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Any]:
    """One of a diffusion and one of a flow."""
    folders = [tmp_path_factory.mktemp("tokenizer") for _ in range(2)]
    made = {False: build_stable_diffusion(folders[0]), True: build_stable_diffusion_3(folders[1])}
    for pipeline in made.values():
        pipeline.set_progress_bar_config(disable=True)
    return made


def taken(scheduler: Any) -> bool:
    try:
        levels_of("test", scheduler)
    except (TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize(("name", "options"), cases())
def test_pictures_are_those_of_the_pipeline(name: str, options: dict[str, Any], pipelines: dict[bool, Any]) -> None:
    scheduler = made(name, **options)
    if name in APART or not taken(scheduler):  # refused by sentences: models/test_schedulers.py
        return
    flow = isinstance(levels_of("test", scheduler), Flow)
    pipeline = pipelines[flow]
    pipeline.scheduler = scheduler
    model = latentjac.load(pipeline)
    called = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "np"}
    if "Inverse" in name or "RePaint" in name:
        with pytest.raises(ValueError, match=f"scheduler must be one that leads from noise to pictures, got {name}"):
            latentjac.sample(model, solver=Diffusers())
        return

    def generator() -> torch.Generator | None:
        """Pipelines of flows give schedulers none: what they draw comes from torch's own."""
        torch.manual_seed(2)
        return None if flow else torch.Generator().manual_seed(2)

    theirs = pipeline(PROMPTS, negative_prompt=[AWAY] * 2, height=16, width=16, generator=generator(), **called).images
    ours = latentjac.sample(
        model, num_images=2, prompt=PROMPTS, negative_prompt=AWAY, generator=generator(), **called
    )  # fmt: skip
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def pixels(kind: Any, scheduler: Any) -> Any:
    pipeline = kind(unet=build_tiny_unet(), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("kind", "scheduler", "solver", "given"),
    [
        (DDPMPipeline, diffusers.DDPMScheduler(), None, {}),
        (PNDMPipeline, diffusers.PNDMScheduler(skip_prk_steps=False), None, {}),
        (DDIMPipeline, diffusers.DDIMScheduler(clip_sample=True), None, {}),
        (DDIMPipeline, diffusers.DDIMScheduler(thresholding=True), Diffusers(eta=0.5), {"eta": 0.5}),
    ],
    ids=["DDPM", "PNDM", "clipped", "noisy"],
)
def test_pictures_of_pixels(kind: Any, scheduler: Any, solver: Any, given: dict[str, float]) -> None:
    pipeline = pixels(kind, scheduler)
    model = latentjac.load(pipeline)
    theirs = pipeline(
        2, generator=torch.Generator().manual_seed(2), num_inference_steps=STEPS, output_type="np", **given
    )
    ours = latentjac.sample(
        model, num_images=2, generator=torch.Generator().manual_seed(2), num_inference_steps=STEPS, output_type="np",
        solver=solver,
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs.images, atol=1e-4)
    noise = latentjac.noise_point(model, 2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(2))
    plain = latentjac.sample(model, noise, output_type="np")  # neither clipped nor noisy
    assert np.abs(plain - theirs.images).max() > 1e-2


def test_variance_exploding_with_a_corrector() -> None:
    pipeline = pixels(ScoreSdeVePipeline, diffusers.ScoreSdeVeScheduler())
    theirs = pipeline(2, STEPS, torch.Generator().manual_seed(2), output_type="np").images
    model = latentjac.load(pipeline)
    ours = latentjac.sample(
        model, num_images=2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(2),
        output_type="latent",
    )  # fmt: skip
    # Its pixels are in [0, 1].
    np.testing.assert_allclose(ours.clamp(0, 1).movedim(1, -1), theirs, atol=1e-4)


def test_steps_that_are_given_the_clean_sample_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of CogVideoX, whose pipeline has frames before channels: noise in that order is another, so none is drawn."""
    monkeypatch.setattr(scheduling_dpm_cogvideox, "randn_tensor", lambda shape, **more: torch.zeros(shape))
    pipeline = build_cogvideox()
    pipeline.scheduler = diffusers.CogVideoXDPMScheduler(timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=(8, 16), frames=9)
    start = latentjac.noise_point(model, num_inference_steps=STEPS, prompt="a cat", guidance_scale=3.0)
    theirs = pipeline(
        "a cat", latents=start.sample.transpose(1, 2), num_inference_steps=STEPS, guidance_scale=3.0, height=8,
        width=16, num_frames=9, output_type="np",
    ).frames  # fmt: skip
    ours = latentjac.sample(model, start, solver=Diffusers(), output_type="np")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("variance", ["fixed_small_log", "learned_range"])
def test_steps_that_are_told_where_they_end(variance: str) -> None:
    """unCLIP's, of a network with and without a learned variance, beside its loop written out."""
    network = UNet2DModel.from_config({**build_tiny_unet().config, "out_channels": 6 if "learned" in variance else 3})
    network.eval()
    scheduler = diffusers.UnCLIPScheduler(variance_type=variance)
    call = lambda net, x, t, c: net(x, t, return_dict=False)[0]  # noqa: E731
    model = latentjac.Model(network, scheduler, call=call, sample_shape=(3, 16, 16))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 3, 16, 16, generator=generator)
    scheduler.set_timesteps(STEPS)
    ends = [*scheduler.timesteps[1:], None]
    with torch.no_grad():
        for t, end in zip(scheduler.timesteps, ends, strict=True):
            x = scheduler.step(network(x, t).sample, t, x, prev_timestep=end, generator=generator).prev_sample
    ours = latentjac.sample(
        model, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(2), output_type="latent"
    )
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_a_learned_variance_is_that_under_the_prompt(tmp_path: Path) -> None:
    """As pipelines take it: what guidance leads away from has no part in it."""
    pipeline = build_stable_diffusion(tmp_path, out_channels=8)
    pipeline.scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    model = latentjac.load(pipeline)
    given = model.conditioning(PROMPTS, AWAY, 3.0)
    own, away = (model.conditioning(text) for text in (PROMPTS, [AWAY] * 2))
    generator = torch.Generator().manual_seed(2)
    x, scheduler = torch.randn(2, 4, 8, 8, generator=generator), pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in scheduler.timesteps:
            towards, from_ = (pipeline.unet(x, t, c["text"]).sample for c in (own, away))
            mean = from_[:, :4] + 3.0 * (towards[:, :4] - from_[:, :4])
            x = scheduler.step(torch.cat([mean, towards[:, 4:]], 1), t, x, generator=generator).prev_sample
    ours = latentjac.sample(
        model, num_images=2, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(2),
        conditioning=given, output_type="latent",
    )  # fmt: skip
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)
    model.network.register_to_config(out_channels=4)
    model.call = lambda net, x, t, c: net(x, t, c["text"]).sample[:, :4]
    with pytest.raises(ValueError, match="a variance_type of fixed ones for a network that predicts no variance"):
        latentjac.sample(model, conditioning=given.rows(slice(0, 1)))


@pytest.mark.parametrize("clipped", [False, True])
def test_several_steps_of_a_consistency_model(clipped: bool) -> None:
    unet = build_tiny_unet(num_class_embeds=4)
    pipeline = ConsistencyModelPipeline(unet, diffusers.CMStochasticIterativeScheduler(clip_denoised=clipped))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(1, 3, STEPS, generator=torch.Generator().manual_seed(2), output_type="np").images
    ours = latentjac.sample(
        latentjac.load(pipeline), class_label=3, guidance_scale=1.0, num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(2), output_type="np",
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_steps_that_count_angles(steps: int) -> None:
    pipeline = build_sana(distilled=True)
    pipeline.set_progress_bar_config(disable=True)
    called: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": 3.0, "output_type": "np"}
    between = {} if steps == 2 else {"intermediate_timesteps": None}
    theirs = pipeline(
        "a red cat", generator=torch.Generator().manual_seed(2), height=32, width=32, use_resolution_binning=False,
        **called, **between,
    ).images  # fmt: skip
    model = latentjac.load(pipeline)
    ours = latentjac.sample(model, prompt="a red cat", generator=torch.Generator().manual_seed(2), **called)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.fixture
def model() -> latentjac.Model:
    return latentjac.load(pixels(DDPMPipeline, diffusers.EulerDiscreteScheduler()))


def test_noise_at_hand_and_noise_of_a_seed_are_the_same_picture(model) -> None:
    """Euler's noise is not of deviation 1, neither in a point nor in the scheduler."""
    options: dict[str, Any] = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(2)}
    start = latentjac.noise_point(model, **options)
    ours = latentjac.sample(model, start, solver=Diffusers(), output_type="latent")
    options["generator"].manual_seed(2)
    torch.testing.assert_close(ours, latentjac.sample(model, **options, output_type="latent"))


def test_where_it_is_refused(model) -> None:
    start = latentjac.noise_point(model, num_inference_steps=STEPS)
    path = latentjac.invert(model, torch.rand(1, 3, 16, 16), num_inference_steps=STEPS)
    own = Schedule.from_scheduler(model.scheduler, STEPS)
    below = latentjac.Point(start.sample, 2, own, start.conditioning)
    for point in (below, path.at(0.7)):
        with pytest.raises(ValueError, match="point must be pure noise at the noisiest of the scheduler's 4 levels"):
            latentjac.sample(model, point, solver=Diffusers())
    with pytest.raises(ValueError, match=r"grid must be Own\(\) with solver=Diffusers\(\), got Rho"):
        latentjac.sample(model, grid=Rho(), solver=Diffusers())
    with pytest.raises(ValueError, match="generator must be left at None with a point"):
        latentjac.sample(model, start, generator=torch.Generator())
    picture = torch.rand(1, 3, 16, 16)
    for refusing in (
        lambda: latentjac.invert(model, picture, solver=Diffusers()),
        lambda: latentjac.noise_point(model, solver=Diffusers()),
        lambda: Schedule(own.signals, own.noises, own.timesteps, solver=Diffusers()),
    ):
        with pytest.raises(TypeError, match="got Diffusers, whose steps cannot be undone: it is for sample alone"):
            refusing()
    with pytest.raises(ValueError, match=r"eta must be a number in \[0, 1\]"):
        Diffusers(eta=2.0)


def test_schedulers_say_what_they_cannot(model) -> None:
    model.scheduler = diffusers.EulerAncestralDiscreteScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match="must have steps for its network, got EulerAncestralDiscreteScheduler: "):
        latentjac.sample(model)


def test_other_grids_and_other_ways_are_of_the_probability_flow(model) -> None:
    """By default DDIM on another grid; and where a scheduler leads elsewhere."""
    seeded = torch.Generator().manual_seed
    for given in ({"grid": Rho()}, {"solver": DDIM()}, {"grid": Rho(), "solver": Multistep()}):
        start = latentjac.noise_point(model, num_inference_steps=STEPS, generator=seeded(2), **given)
        ours = latentjac.sample(model, num_inference_steps=STEPS, generator=seeded(2), output_type="latent", **given)
        assert torch.equal(ours, latentjac.sample(model, start, output_type="latent"))
    inverse = diffusers.DDIMInverseScheduler.from_config(build_scheduler().config)
    model.scheduler = inverse
    start = latentjac.noise_point(model, num_inference_steps=STEPS, generator=seeded(2))
    ours = latentjac.sample(model, num_inference_steps=STEPS, generator=seeded(2), output_type="latent")
    assert torch.equal(ours, latentjac.sample(model, start, output_type="latent"))
