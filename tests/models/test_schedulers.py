"""Every scheduler of diffusers: taken, with the grid of its own, or refused by a sentence that names it."""

from __future__ import annotations

import json
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from every_scheduler import NAMES, made
from networks import build_scheduler

import latentjac
from latentjac.diffusion import Schedule
from latentjac.models.folders import _read_scheduler
from latentjac.models.levels import Table
from latentjac.models.schedulers import levels_of

FLOW = diffusers.FlowMatchEulerDiscreteScheduler
FRACTIONAL = ("EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "KDPM2Discrete")  # with linspace spacing


def saved(scheduler: Any, folder: Any) -> Any:
    """The same scheduler, read from the file that it writes."""
    scheduler.save_pretrained(folder)
    return _read_scheduler(folder / "scheduler_config.json", type(scheduler).__name__)


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_is_taken_or_refused(name: str, tmp_path) -> None:
    scheduler = made(name)
    try:
        schedule = Schedule.from_scheduler(scheduler, 7)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError), match=f"got {name}, .*; give"):
            levels_of("test", scheduler)
        with pytest.raises(latentjac.LoadError, match=f"got {name}, .*; give"):
            saved(scheduler, tmp_path)
        return
    assert schedule.top == 7
    assert Schedule.from_scheduler(saved(scheduler, tmp_path), 7) == schedule
    levels = levels_of("test", scheduler)
    for level in range(1, 8):
        t, x = torch.tensor(schedule.timesteps[level]).double(), torch.zeros(()).double()
        known = [float(value) for value in levels.at(t, x)]
        assert known == pytest.approx([schedule.signals[level], schedule.noises[level]], rel=1e-5, abs=1e-6)


def test_a_known_set_is_taken() -> None:
    """What the walk over all classes would not notice: one that is refused by mistake."""
    for name in ("DDPM", "PNDM", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "KDPM2Discrete", "DPMSolverMultistep"):
        assert isinstance(levels_of("test", made(f"{name}Scheduler")), Table)
    kinds = {"FlowMatchHeunDiscrete": "flow_prediction", "ScoreSdeVe": "score", "EDMDPMSolverMultistep": "edm"}
    for name, kind in kinds.items():
        assert levels_of("test", made(f"{name}Scheduler")).prediction_type == kind


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shift": 3.0},
        {"shift": 2.0, "shift_terminal": 0.1},
        {"use_dynamic_shifting": True},
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "max_shift": 2.0, "base_image_seq_len": 64},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("steps", [2, 50])
def test_flows_have_the_sigmas_of_diffusers(options: dict[str, Any], steps: int) -> None:
    scheduler, theirs, tokens = FLOW(**options), FLOW(**options), 1024
    config = theirs.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
    if config.use_dynamic_shifting:
        theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)  # as the pipeline of Flux does
    else:
        theirs.set_timesteps(steps)
    schedule = Schedule.from_scheduler(scheduler, steps, tokens)
    expected = theirs.sigmas.double()
    np.testing.assert_allclose(schedule.noises[::-1], expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(schedule.timesteps[:0:-1], theirs.timesteps, rtol=1e-6)
    np.testing.assert_allclose(np.add(schedule.signals, schedule.noises), 1)
    assert tuple(map(float, expected[:-1])) == pytest.approx(schedule.noises[:0:-1], abs=1e-7)


def test_levels_of_a_scheduler_shift_with_the_size_where_its_pipeline_gives_none() -> None:
    """As those of Stable Diffusion 3; by default they are placed evenly, as by most pipelines."""
    scheduler, theirs = FLOW(use_dynamic_shifting=True), FLOW(use_dynamic_shifting=True)
    theirs.set_timesteps(6, mu=0.5)
    own = Schedule.from_scheduler(scheduler, 6, 256, placement="scheduler")
    np.testing.assert_allclose(own.noises[::-1], theirs.sigmas.double(), atol=1e-7)
    assert own != Schedule.from_scheduler(scheduler, 6, 256)


def test_the_size_of_samples_shifts_levels() -> None:
    scheduler = FLOW(use_dynamic_shifting=True)
    small, large = (Schedule.from_scheduler(scheduler, 4, tokens) for tokens in (256, 4096))
    assert all(a < b for a, b in zip(small.noises[1:-1], large.noises[1:-1], strict=True))
    assert Schedule.from_scheduler(scheduler, 4) == small  # base_image_seq_len
    net = torch.nn.Conv2d(3, 3, 1)
    model = latentjac.Model(net, scheduler, call=lambda net, x, t, c: net(x), sample_shape=(3, 64, 64))
    assert latentjac.noise_point(model, num_inference_steps=4).schedule == large
    for options, tokens in (({"patch_size": 2, "in_channels": 3}, 1024), ({"patch_size": 1, "in_channels": 12}, 1024)):
        net.config = options
        assert model.image_seq_len == tokens


def told(scheduler: Any, num_inference_steps: int) -> list[float]:
    """Timesteps that the network of a model gets, on a way down."""
    got: list[float] = []

    def call(net: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, c: latentjac.Conditioning) -> torch.Tensor:
        got.append(float(t))
        return net(x)

    model = latentjac.Model(torch.nn.Conv2d(3, 3, 1), scheduler, call=call, sample_shape=(3, 4, 4))
    latentjac.sample(model, num_inference_steps=num_inference_steps, output_type="latent")
    return got


@pytest.mark.parametrize("kind", ["DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "DPMSolverSinglestep"])
def test_flow_sigmas_of_other_solvers(kind: str, tmp_path) -> None:
    options = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**options)
    schedule = Schedule.from_scheduler(scheduler, 10)
    scheduler.set_timesteps(10)
    np.testing.assert_allclose(schedule.noises[::-1], scheduler.sigmas.double(), atol=1e-7)
    assert Schedule.from_scheduler(saved(scheduler, tmp_path), 10) == schedule
    got = told(scheduler, 10)
    assert got == scheduler.timesteps.tolist()[: len(got)]  # whole ones; the last two levels of DEIS are one
    with pytest.raises(ValueError, match=rf"prediction_type of \['flow_prediction', 'sample'\].*from {kind}Scheduler"):
        levels_of("test", getattr(diffusers, f"{kind}Scheduler")(**{**options, "prediction_type": "epsilon"}))
    with pytest.raises(ValueError, match=f"got 'flow_prediction' from {kind}Scheduler"):
        levels_of("test", getattr(diffusers, f"{kind}Scheduler")(prediction_type="flow_prediction"))


def test_one_scheduler_made_of_another_has_one_grid(tmp_path) -> None:
    """Of the settings of another class, those that it had left to its defaults are not taken over."""
    ddpm = diffusers.DDPMScheduler(beta_schedule="scaled_linear", steps_offset=1)
    for kind in ("DPMSolverMultistep", "UniPCMultistep", *FRACTIONAL):
        scheduler = getattr(diffusers, f"{kind}Scheduler").from_config(ddpm.config)
        schedule = Schedule.from_scheduler(scheduler, 12)
        assert Schedule.from_scheduler(saved(scheduler, tmp_path), 12) == schedule
        scheduler.set_timesteps(12)
        placed = np.unique(scheduler.timesteps.double().numpy()[:: scheduler.order])
        assert list(schedule.timesteps[1:]) == placed.tolist()
        assert all(t == round(t) for t in placed) == (kind not in FRACTIONAL)
        powers = np.interp(placed, np.arange(1000), scheduler.alphas_cumprod.double())
        np.testing.assert_allclose(schedule.noises[1:], np.sqrt(1 - powers))


@pytest.mark.parametrize("sigmas", ["karras", "exponential", "beta"])
@pytest.mark.parametrize("kind", ["DPMSolverMultistep", "UniPCMultistep", "EulerDiscrete"])
def test_levels_between_whole_timesteps(kind: str, sigmas: str) -> None:
    """Samples are at the sigmas of the class, and the network gets its timesteps."""
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**{f"use_{sigmas}_sigmas": True}, beta_schedule="scaled_linear")
    schedule = Schedule.from_scheduler(scheduler, 12)
    scheduler.set_timesteps(12)
    ratios = np.divide(schedule.noises, schedule.signals)[:0:-1]
    tolerance = 1e-6 if kind != "EulerDiscrete" else 1e-2  # its timesteps are where sigmas are, by logarithms
    np.testing.assert_allclose(ratios, scheduler.sigmas[: len(ratios)], rtol=tolerance)
    got = told(scheduler, 12)
    np.testing.assert_allclose(got, scheduler.timesteps[: len(got)], rtol=1e-6)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("kind", ["EulerDiscrete", "HeunDiscrete", "KDPM2Discrete", "DDIM", "DPMSolverMultistep"])
def test_noise_begins_as_in_diffusers(kind: str, spacing: str) -> None:
    scheduler = getattr(diffusers, f"{kind}Scheduler")(timestep_spacing=spacing)
    scheduler.set_timesteps(5)
    schedule = Schedule.from_scheduler(scheduler, 5)
    top = schedule.noises[-1]
    ratio = top / schedule.signals[-1]
    scaled = kind in ("DDIM", "DPMSolverMultistep")  # whose samples are those of the network
    expected = 1.0 if scaled else float(scheduler.init_noise_sigma) / (1 + ratio**2) ** 0.5
    assert levels_of("test", scheduler).spread(top) == pytest.approx(expected, rel=1e-6)


def test_the_clean_level_can_be_as_noisy_as_the_first() -> None:
    schedule = Schedule.from_scheduler(diffusers.EulerDiscreteScheduler(final_sigmas_type="sigma_min"), 7)
    assert schedule.noises[0] == schedule.noises[1] > 0
    assert schedule.signals[0] == schedule.signals[1]


@pytest.mark.parametrize("kind", ["PNDM", "LCM", "TCD", "RePaint", "DDIMInverse"])
def test_grids_that_are_those_of_ddim(kind: str) -> None:
    scheduler = getattr(diffusers, f"{kind}Scheduler")(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    ddim = diffusers.DDIMScheduler(set_alpha_to_one=kind != "PNDM")
    assert Schedule.from_scheduler(scheduler, 60) == Schedule.from_scheduler(ddim, 60)


@pytest.mark.parametrize("kind", ["DDIM", "DDPM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "LCM"])
def test_zero_terminal_snr(kind: str) -> None:
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**options)
    schedule = Schedule.from_scheduler(scheduler, 5)
    assert schedule.signals[-1] < 1e-3
    powers = scheduler.alphas_cumprod.double()[list(schedule.timesteps[1:])]
    torch.testing.assert_close(torch.tensor(schedule.signals[1:]).double() ** 2, powers, rtol=1e-6, atol=1e-12)


def test_what_is_ignored_or_impossible_is_refused() -> None:
    zero = build_scheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    heun = diffusers.HeunDiscreteScheduler.from_config(zero.config)
    cases = [
        (heun, "such as DDIMScheduler, got HeunDiscreteScheduler, which ignores it"),
        (build_scheduler(rescale_betas_zero_snr=True), "got none from DDIMScheduler"),
        (FLOW(invert_sigmas=True), "got True from FlowMatchEulerDiscreteScheduler.*; give"),
        (
            diffusers.EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
            "got 'continuous' from EulerDiscreteScheduler; give EDMEulerScheduler",
        ),
        (diffusers.ScoreSdeVeScheduler(sigma_min=5.0, sigma_max=5.0), "sigma_min below its sigma_max, got 5 and 5"),
    ]
    for scheduler, message in cases:
        with pytest.raises(ValueError, match=message):
            levels_of("test", scheduler)
    with pytest.raises(ValueError, match=r"image_seq_len must be .*, got 0"):
        Schedule.from_scheduler(FLOW(), 4, 0)


def test_files_of_schedulers_that_cannot_be(tmp_path) -> None:
    file = tmp_path / "scheduler_config.json"
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    for settings, message in (
        ({**flow, "shift": -1.0}, "shift must be a positive number, got -1"),
        ({**flow, "shift_terminal": 1.0}, "shift_terminal must be a number in"),
        ({**flow, "base_image_seq_len": 0}, "base_image_seq_len must be an int"),
        ({"_class_name": "UNet2DModel"}, "scheduler must be one of diffusers, got 'UNet2DModel'"),
        ({"_class_name": "VQDiffusionScheduler"}, "got VQDiffusionScheduler, whose levels are those of tokens"),
    ):
        file.write_text(json.dumps(settings))
        with pytest.raises(latentjac.LoadError, match=message):
            _read_scheduler(file, None)


def test_fractional_timesteps_between_levels() -> None:
    """Of a flow every timestep has a level; with powers the whole ones, and others that below or between."""
    x, t = torch.zeros(2, 1, 1, 1).double(), torch.tensor([250.5, 999.9]).double()
    signal, noise = levels_of("test", FLOW()).at(t, x)
    torch.testing.assert_close(noise.flatten(), t / 1000)
    torch.testing.assert_close(signal, 1 - noise)
    powers = build_scheduler().alphas_cumprod.double()[[250, 999]]
    torch.testing.assert_close(levels_of("test", build_scheduler()).at(t, x)[0].flatten(), powers.sqrt())
    above = build_scheduler().alphas_cumprod.double()[[251, 999]]
    between = powers + torch.tensor([0.5, 0.9]).double() * (above - powers)
    euler = diffusers.EulerDiscreteScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(levels_of("test", euler).at(t, x)[0].flatten(), between.sqrt())
    whole = torch.tensor([250, 999])
    torch.testing.assert_close(levels_of("test", euler).at(whole, x)[0].flatten(), powers.sqrt(), rtol=0, atol=0)
    half = levels_of("test", FLOW()).at(torch.tensor(999.0), x.half())
    assert float(half[0]) == pytest.approx(1e-3, rel=1e-3)  # 1 - s in half precision would be 0.0009766
