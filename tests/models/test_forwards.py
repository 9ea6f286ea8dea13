"""Evaluations that are recorded and replayed give what the network gives, whatever becomes of it in between."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from networks import build_scheduler, build_shallow_unet, rand
from pipelines import build_stable_diffusion
from recorder import Recorder

import latentjac
from latentjac.diffusion import predict
from latentjac.models.forwards import Forwards

Tensor = torch.Tensor


def recording(model: latentjac.Model, **options: object) -> Recorder:
    """Have the model record its evaluations, with a stand-in for a GPU."""
    recorder = Recorder(**options)
    model._forwards = Forwards(recorder)
    return recorder


@pytest.fixture
def model() -> latentjac.Model:
    return latentjac.load(build_shallow_unet().double(), build_scheduler())


def plain(model: latentjac.Model, x: Tensor, timestep: int, under: latentjac.Conditioning) -> Tensor:
    return model.eps(x, torch.tensor(timestep, device=x.device), under)


NOTHING = latentjac.Conditioning()


def check(model: latentjac.Model, x: Tensor, under: latentjac.Conditioning = NOTHING, times: int = 5) -> None:
    """At several timesteps the evaluations are those of the network."""
    for timestep in torch.linspace(900, 100, times).long().tolist():
        found = predict(model, x, timestep, under)
        torch.testing.assert_close(found.eps, plain(model, x, timestep, under))


def test_shapes_that_come_again_are_replayed(model: latentjac.Model) -> None:
    recorder = recording(model)
    for count in (1, 3):
        check(model, rand(count, 3, 8, 8).double())
    assert model._forwards.num_recorded == 2
    assert recorder.replays == 2 * 3, "of five evaluations each the third is recorded"


def test_results_stay_when_the_next_ones_come(model: latentjac.Model) -> None:
    recording(model)
    x = rand(1, 3, 8, 8).double()
    found = [predict(model, x, timestep).eps for timestep in (900, 700, 500, 300, 100)]
    for eps, timestep in zip(found, (900, 700, 500, 300, 100), strict=True):
        torch.testing.assert_close(eps, plain(model, x, timestep, NOTHING))


def test_prompts_and_guidance_are_copied_into_a_recording(tmp_path: Path) -> None:
    model = latentjac.load(build_stable_diffusion(tmp_path))
    recorder = recording(model)
    x = rand(2, *model.sample_shape).to(model.dtype)
    for prompt in ("a", "b"):
        for scale in (1.0, 3.0, 5.0):
            check(model, x, model.conditioning(prompt, guidance_scale=scale))
    assert model._forwards.num_recorded == 2, "other prompts and scales are no other recordings"
    assert recorder.replays == 2 * 3 + 4 * 5, "the third evaluation of each recording is its first replay"


CHANGES: dict[str, Callable[[torch.nn.Module], object]] = {
    "weights in place": lambda n: [p.mul_(0.8) for p in n.parameters()],
    "other values": lambda n: [setattr(p, "data", 0.8 * p.data) for p in n.parameters()],
    "other weights": lambda n: n.conv_out.register_parameter(
        "weight", torch.nn.Parameter(2 * n.conv_out.weight, requires_grad=False)
    ),
    "setting": lambda n: setattr(n.mid_block.resnets[0], "output_scale_factor", 3.0),
    "hook": lambda n: n.mid_block.register_forward_hook(lambda module, inputs, output: 2 * output),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_network_is_followed(model: latentjac.Model, name: str) -> None:
    recording(model)
    x = rand(1, 3, 8, 8).double()
    check(model, x)
    before = plain(model, x, 500, NOTHING)
    CHANGES[name](model.network)
    assert (plain(model, x, 500, NOTHING) - before).norm() > 1e-3 * before.norm()
    check(model, x)


def test_another_scheduler_or_call_is_followed(model: latentjac.Model) -> None:
    recording(model)
    x = rand(1, 3, 8, 8).double()
    check(model, x)
    forwards, call = model._forwards, model.call
    model.call = lambda network, *rest: 2 * call(network, *rest)
    check(model, x)
    model.scheduler = build_scheduler(prediction_type="v_prediction")
    model._forwards = forwards  # setting it drops them
    check(model, x)


def test_taps_run_in_every_evaluation(model: latentjac.Model) -> None:
    edits = []
    for records in (False, True):
        if records:
            recording(model)
        path = latentjac.invert(model, rand(3, 8, 8).sigmoid().double(), 8, t=0.7)
        basis = latentjac.local_basis(model, path.at(0.7), 2, tol=1e-8)
        edit = latentjac.edit(model, path.at(0.7), basis.v, [-2.0, 2.0])
        features = latentjac.edit(model, path.at(0.7), basis.u, 20.0, method=latentjac.editing.HSpace())
        edits.append((edit.samples, features.samples, edit.along.feature_path))
    assert model._forwards.num_recorded
    for found, expected in zip(*edits, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_what_cannot_be_recorded_is_launched_one_by_one(
    model: latentjac.Model, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder = recording(model, fails=fails)
    with caplog.at_level(logging.WARNING, "latentjac"):
        check(model, rand(1, 3, 8, 8).double())
        check(model, rand(2, 3, 8, 8).double())
    assert not recorder.replays
    assert [record.message for record in caplog.records] == [
        "predict: evaluations are launched one by one, since recording failed: "
        "operation not permitted when stream is capturing"
    ]


FULL = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize(("fits", "error"), [(4, FULL[0]), (3, FULL[1]), (1, FULL[0])], ids=str)
def test_fewer_samples_at_once_where_memory_runs_out(
    model: latentjac.Model, caplog: pytest.LogCaptureFixture, fits: int, error: Exception
) -> None:
    x, call, entered = rand(11, 3, 8, 8).double(), model.call, []

    def limited(network: torch.nn.Module, x: Tensor, *rest: object) -> Tensor:
        if len(x) > fits:
            raise error
        entered.append(len(x))
        return call(network, x, *rest)

    expected = plain(model, x, 500, NOTHING)
    model.call = limited
    with caplog.at_level(logging.WARNING, "latentjac"):
        torch.testing.assert_close(predict(model, x, 500).eps, expected)
    assert sum(entered) == 11
    assert "predict: out of memory with 11 samples at once; going on with 5" in caplog.messages
    said = len(caplog.messages)
    predict(model, x, 400)
    assert len(caplog.messages) == said, "what fits is known then"


def test_one_sample_that_does_not_fit_raises(model: latentjac.Model) -> None:
    def full(*given: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.call = full
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, rand(3, 3, 8, 8).double(), 500)


def test_threads_take_turns(model: latentjac.Model) -> None:
    recording(model)
    check(model, rand(1, 3, 8, 8).double())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: check(model, rand(1, 3, 8, 8, seed=seed).double()), range(8)))


def test_recordings_are_not_pickled(model: latentjac.Model) -> None:
    recording(model)
    check(model, rand(1, 3, 8, 8).double())
    again = pickle.loads(pickle.dumps(model))
    assert not again._forwards.num_recorded
    check(again, rand(1, 3, 8, 8).double())


@pytest.mark.cuda
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_on_a_gpu(tmp_path: Path, gpu: torch.device, scale: float) -> None:
    model = latentjac.load(build_stable_diffusion(tmp_path)).to(gpu)
    for prompt in ("a", "b"):
        check(
            model, rand(2, *model.sample_shape).to(gpu, model.dtype), model.conditioning(prompt, guidance_scale=scale)
        )
    assert model._forwards.num_recorded == 1


@pytest.mark.cuda
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_network_is_followed_on_a_gpu(model: latentjac.Model, gpu: torch.device, name: str) -> None:
    model.to(gpu)
    x = rand(1, 3, 8, 8).double().to(gpu)
    check(model, x)
    assert model._forwards.num_recorded == 1
    CHANGES[name](model.network)
    check(model, x)
