"""Pipelines of sound: equal to those of diffusers, with bases, edits and layers whose features are series."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from sound_pipelines import build_stable_audio
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method
from latentjac.models import SoundCodec
from latentjac.models.schedulers import levels_of

PROMPTS = ["a red cat", "a dog"]


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_stable_audio(), dtype=torch.float64)


@pytest.mark.parametrize("negative", [None, "blue"])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_waves_are_those_of_diffusers(scale: float, negative: str | None) -> None:
    pipeline = build_stable_audio()
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline)
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    options = {"num_inference_steps": 4, "guidance_scale": scale, "output_type": "np"}
    away = None if negative is None else [negative] * 2
    theirs = pipeline(PROMPTS, latents=noise, negative_prompt=away, **options).audios
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(
        model, num_images=2, prompt=PROMPTS, negative_prompt=negative or "", generator=generator, **options
    )
    assert ours.shape == (2, 2, 64)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_levels_are_those_of_the_class_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs torchsde for its noise alone, which is not asked for here."""
    name = "diffusers.schedulers.scheduling_cosine_dpmsolver_multistep"
    for needed in ("diffusers.schedulers.scheduling_dpmsolver_sde", name):
        monkeypatch.delitem(sys.modules, needed, raising=False)
    monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))
    scheduler = importlib.import_module(name).CosineDPMSolverMultistepScheduler()
    levels, schedule = levels_of("test", scheduler), latentjac.diffusion.Schedule.from_scheduler(scheduler, 5)
    scheduler.set_timesteps(5)
    torch.testing.assert_close(torch.tensor(schedule.noises[::-1]), scheduler.sigmas, check_dtype=False)
    x, out = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    for level, sigma, told in zip(range(5, 0, -1), scheduler.sigmas, scheduler.timesteps, strict=False):
        t = torch.tensor(schedule.timesteps[level])
        scaled, time = levels.given(x, t)
        torch.testing.assert_close(scaled, scheduler.precondition_inputs(x, sigma.double()), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(time, told.double(), rtol=1e-5, atol=1e-6)
        expected = scheduler.precondition_outputs(x, out, sigma.double())
        torch.testing.assert_close(levels.predicted(out, x, t).x0, expected, rtol=1e-5, atol=1e-6)


def test_there_and_back_under_two_prompts(model) -> None:
    waves = torch.rand(2, 2, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = latentjac.invert(model, waves, 6, PROMPTS, grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40
    assert latentjac.diffusion.render(model, path.reconstruction, "pt").shape == waves.shape
    assert path.conditioning.num_rows == 2


@pytest.mark.parametrize("layer", ["mid", "eps"])
def test_bases_are_those_of_the_dense_jacobian(model, layer: str) -> None:
    point = latentjac.noise_point(model, num_inference_steps=5, prompt="a cat", negative_prompt="dog", guidance_scale=3)
    point = replace(point, level=2)
    noise, found = point.noise, []
    handle = model.network.get_submodule(model.layers["mid"]).register_forward_hook(lambda m, i, out: found.append(out))

    def f(x: torch.Tensor) -> torch.Tensor:
        scaled, time = x / (noise**2 + 1) ** 0.5, torch.tensor(noise, dtype=x.dtype).atan() * (2 / torch.pi)
        found.clear()
        towards = model.call(model.network, scaled, time, point.conditioning.unguided())
        if layer == "mid":
            return found[0][:, 1:]  # the first token is of the time and the duration
        away = model.call(model.network, scaled, time, point.conditioning.guidance.negative)
        out = away + 3 * (towards - away)
        x0 = x / (noise**2 + 1) - noise / (noise**2 + 1) ** 0.5 * out
        return (x - x0) / noise

    _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
    handle.remove()
    basis = latentjac.local_basis(model, point, 3, layer, tol=1e-6)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-3
    assert basis.u.shape == ((3, 16, 16) if layer == "mid" else (3, 4, 16))


@pytest.mark.parametrize(
    "method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()], ids=repr
)
def test_edits(model, method: Method) -> None:
    point = replace(latentjac.noise_point(model, num_inference_steps=4, prompt="a cat", guidance_scale=2.0), level=2)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3
    assert edit.images == []


def test_without_a_text_the_network_gets_zeros_and_the_duration(model) -> None:
    plain, text = model.conditioning(None), model.conditioning("a cat")
    assert not plain["text"].any()
    assert plain["text"].shape == text["text"].shape
    assert torch.equal(plain["duration"], text["duration"])
    assert model.codec.seconds == 4.0


def test_what_does_not_fit_is_named(model) -> None:
    with pytest.raises(ValueError, match="load: size must be left at None for networks of sound"):
        latentjac.load(build_stable_audio(), size=64)
    with pytest.raises(ValueError, match="load: frames must be left at None for networks of sound, got 5"):
        latentjac.load(build_stable_audio(), frames=5)
    with pytest.raises(ValueError, match=r"sample: output_type must be 'np', 'pt' or 'latent' for a model of sound"):
        latentjac.sample(model, num_inference_steps=2)
    with pytest.raises(ValueError, match=r"invert: image must be a float tensor \[B, 2, 64\], got \[2, 63\]"):
        latentjac.invert(model, torch.zeros(2, 63))
    with pytest.raises(ValueError, match=r"encode: waves must have values in \[-1, 1\], got one of 2"):
        model.codec.encode(np.full((2, 64), 2.0))
    with pytest.raises(TypeError, match=r"SoundCodec: autoencoder must be one of .*got Linear"):
        SoundCodec(torch.nn.Linear(1, 1), 16)
