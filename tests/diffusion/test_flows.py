"""Flow matching, variance exploding and EDM levels, against diffusers and dense Jacobians."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers import UNet2DModel
from networks import rand
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import DDIM, Own, Schedule, denoise, descend

FLOW = diffusers.FlowMatchEulerDiscreteScheduler
KINDS = {
    "flow": lambda: FLOW(shift=3.0),
    "flow of a table": lambda: diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=2.0
    ),
    "exploding": lambda: diffusers.ScoreSdeVeScheduler(sigma_max=50.0),
    "edm": lambda: diffusers.EDMEulerScheduler(),
    "edm of v": lambda: diffusers.EDMEulerScheduler(prediction_type="v_prediction", sigma_schedule="exponential"),
}


def build_net(**options: str) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        **options,
        sample_size=8, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, attention_head_dim=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    ).double()  # fmt: skip


def model_of(kind: str) -> latentjac.Model:
    # A score grows as noise falls: networks of this kind divide by the noise that they get.
    options = {"time_embedding_type": "fourier"} if kind == "exploding" else {}
    return latentjac.load(build_net(**options), KINDS[kind]())


@pytest.fixture(params=KINDS)
def model(request: Any) -> latentjac.Model:
    return model_of(request.param)


def output(model: latentjac.Model, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the network makes of samples and the time that it knows."""
    return model.network(x, t, return_dict=False)[0]


def posterior_mean(model: latentjac.Model, x: torch.Tensor, noise: float) -> torch.Tensor:
    """The clean sample by the definitions of each kind, written out."""
    config, s = model.scheduler.config, torch.tensor(noise, dtype=torch.float64)
    if model.prediction_type == "flow_prediction":
        whole = model.scheduler.config.get(
            "use_flow_sigmas"
        )  # solvers that know other levels, too, count whole timesteps
        return x - s * output(model, x, (s * 1000).floor() if whole else s * 1000)
    if model.prediction_type == "score":
        return x + s**2 * output(model, x, s)
    skip, scale = 0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25).sqrt()
    sign = -1 if config["prediction_type"] == "v_prediction" else 1
    return skip * x + sign * scale * output(model, x / (s**2 + 0.25).sqrt(), s.log() / 4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["flow", "edm", "edm of v"])
def test_samples_are_those_of_diffusers(kind: str) -> None:
    model = model_of(kind)
    point = latentjac.noise_point(model, num_inference_steps=8, generator=torch.Generator().manual_seed(3))
    theirs = KINDS[kind]()
    theirs.set_timesteps(8)
    x = point.sample
    assert float(x.std() / getattr(theirs, "init_noise_sigma", 1.0)) == pytest.approx(1, abs=0.2)
    for t in theirs.timesteps:
        scaled = theirs.scale_model_input(x, t) if kind != "flow" else x
        x = theirs.step(output(model, scaled, t), t, x).prev_sample.double()
    torch.testing.assert_close(latentjac.sample(model, point, output_type="latent"), x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_predictions_are_those_of_the_definitions(model) -> None:
    schedule = Schedule.from_scheduler(model.scheduler, 6)
    for level in range(1, 7):
        a, s = schedule.signals[level], schedule.noises[level]
        x, t = (
            a * rand(2, 3, 8, 8) + s * rand(2, 3, 8, 8, seed=2),
            torch.tensor(schedule.timesteps[level], dtype=torch.float64),
        )
        found = model.denoiser().predict(x, t)
        torch.testing.assert_close(found.x0, posterior_mean(model, x, s), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(a * found.x0 + s * found.eps, x)
        both = model.denoiser().predict(x, t.expand(2))
        torch.testing.assert_close(both.x0, found.x0)


def test_the_way_up_is_the_way_down_reversed(model) -> None:
    path = latentjac.invert(model, torch.rand(1, 3, 8, 8), 20, grid=Own(), solver=DDIM(10))
    assert path.psnr[0] > 40
    assert path.at(t=0.6).t == pytest.approx(0.6, abs=0.13)


@pytest.mark.parametrize("layer", ["mid", "x0"])
def test_bases_are_those_of_dense_jacobians(model, layer: str) -> None:
    point = latentjac.noise_point(model, num_inference_steps=5)
    for t in (0.5,):
        level = point.schedule.level(t=t)
        s, a = point.schedule.noises[level], point.schedule.signals[level]
        here = latentjac.Point(a * rand(1, 3, 8, 8) + s * rand(1, 3, 8, 8, seed=2), level, point.schedule)

        def mid(x: torch.Tensor, here: latentjac.Point = here) -> torch.Tensor:
            """The mid block, of a network that is given what its kind of levels asks for."""
            found: list[torch.Tensor] = []
            handle = model.network.mid_block.register_forward_hook(lambda *args: found.append(args[2]))
            posterior_mean(model, x, here.noise)
            handle.remove()
            return found[0]

        def x0(x: torch.Tensor, here: latentjac.Point = here) -> torch.Tensor:
            return posterior_mean(model, x, here.noise)

        expected = torch.linalg.svdvals(dense_jacobian({"mid": mid, "x0": x0}[layer], here.sample))[:3]
        basis = latentjac.local_basis(model, here, 3, layer, tol=1e-6)
        torch.testing.assert_close(basis.s, expected, rtol=1e-3, atol=1e-6)


def test_an_edit_and_its_files(model, tmp_path) -> None:
    path = latentjac.invert(model, torch.rand(1, 3, 8, 8), 5)
    path = latentjac.Trajectory.load(path.save(tmp_path / "path.safetensors"))
    point = latentjac.Point.load(path.at(0.6).save(tmp_path / "point.safetensors"))
    assert point.schedule == path.schedule
    basis = latentjac.local_basis(model, point, 1, "x0", tol=1e-4)
    edit = latentjac.edit(model, point, basis.v[0], [0.0, 2.0], method=latentjac.editing.Linear())
    moved = denoise(model, point.sample + 2 * point.noise * basis.v[:1], point.schedule, point.level)
    torch.testing.assert_close(edit.samples[0, 1:], moved)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))


def test_ancestral_steps_have_the_noise_of_their_levels() -> None:
    """Of a network that always sees the same clean sample, all that arrives is that sample and noise of the level."""
    schedule = Schedule.from_scheduler(FLOW(), 4)
    clean, levels = rand(1, 3, 32, 32).clamp(-1, 1), []
    model = latentjac.Model(
        torch.nn.Conv2d(3, 3, 1).double(), FLOW(), sample_shape=(3, 32, 32),
        call=lambda net, x, t, c: (x - clean) * 1000 / t,
    )  # fmt: skip
    start = rand(1, 3, 32, 32, seed=2)
    way = descend(model, start, schedule, 4, noisy_below=4, generator=torch.Generator().manual_seed(0))
    for level, x in way:
        noise = x - schedule.signals[level] * clean
        levels.append(level)
        assert float(noise.std()) == pytest.approx(schedule.noises[level], rel=0.05)
    assert levels == [4, 3, 2, 1, 0]


def test_no_signal_at_the_top_is_inverted() -> None:
    """At the noisiest level of zero terminal SNR noise is the sample itself, whatever the network says."""
    scheduler = diffusers.DDPMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    model = latentjac.load(build_net(), scheduler)
    path = latentjac.invert(model, torch.rand(1, 3, 8, 8), 10, grid=Own(), solver=DDIM(8))
    assert path.schedule.signals[-1] == 0
    assert path.psnr[0] > 60
    sampled = latentjac.sample(model, path.at(1.0), output_type="latent")
    torch.testing.assert_close(sampled, path.reconstruction)


@pytest.mark.parametrize("layer", ["mid", "eps", "x0"])
def test_levels_are_traced_with_the_network(model, layer: str) -> None:
    """Else torch.func would compute the whole of it, which is slower."""
    x, t = rand(1, 3, 8, 8), torch.tensor(0.6 * model.num_train_timesteps)
    assert model.linearization(layer, x, t, backend="program").backend == "program"
