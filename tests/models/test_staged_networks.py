"""Wan 2.2: two networks, of which the noise level chooses one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from networks import few_tokens
from truth import dense_jacobian
from video_pipelines import build_staged_wan

import latentjac
from latentjac.linearization import engine
from latentjac.models.adapters import StagedWan

HIGH, LOW = torch.tensor(900.0), torch.tensor(300.0)  # on both sides of the boundary, 750


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load(build_staged_wan(blocks=2), size=(8, 16), frames=5, dtype=torch.float64)


@pytest.fixture(scope="module")
def alone() -> dict[str, latentjac.Model]:
    """Each network as a model of its own, with the same weights."""
    found = {}
    for name in ("transformer", "transformer_2"):
        pipeline = build_staged_wan(blocks=2)
        pipeline.register_modules(transformer=getattr(pipeline, name), transformer_2=None)
        found[name] = latentjac.load(pipeline, size=(8, 16), frames=5, dtype=torch.float64)
    return found


def sample(model: latentjac.Model, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *model.sample_shape, generator=generator, dtype=model.dtype)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_videos_are_those_of_diffusers(scale: float) -> None:
    pipeline = build_staged_wan(blocks=2)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=(16, 32), frames=5)
    noise = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    options = {"num_inference_steps": 6, "guidance_scale": scale, "output_type": "np"}
    theirs = pipeline("a cat", "blue", latents=noise, height=16, width=32, num_frames=5, **options).frames
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(model, prompt="a cat", negative_prompt="blue", generator=generator, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    levels = pipeline.scheduler.timesteps
    assert 0 < int((levels >= 750).sum()) < len(levels)  # it goes through both


def test_the_level_chooses(model, alone) -> None:
    x, under = sample(model), few_tokens(model.conditioning("a cat"))
    for t, name in ((HIGH, "transformer"), (torch.tensor(750.0), "transformer"), (LOW, "transformer_2")):
        assert model.part_at(t) == name
        torch.testing.assert_close(model.eps(x, t, under), alone[name].eps(x, t, under))
    assert alone["transformer"].part_at(LOW) is None


def test_samples_on_both_sides(model, alone) -> None:
    x, under, t = sample(model, 3), few_tokens(model.conditioning("a cat")), torch.stack([LOW, HIGH, LOW])
    assert model.part_at(t) is None
    names = ("transformer_2", "transformer", "transformer_2")
    expected = [alone[name].x0(x[i : i + 1], t[i], under) for i, name in enumerate(names)]
    torch.testing.assert_close(model.x0(x, t, under), torch.cat(expected))
    with pytest.raises(ValueError, match=r"layer: t must be on one side of 750, .* got \[300.0, 900.0, 300.0\]"):
        model.feature_map("mid")(x, t, under)


@pytest.mark.parametrize("layer", ["mid", "x0"])
@pytest.mark.parametrize(("t", "name"), [(HIGH, "transformer"), (LOW, "transformer_2")])
def test_bases_are_those_of_the_network_that_is_used(model, alone, layer: str, t: torch.Tensor, name: str) -> None:
    x, under = sample(model), few_tokens(model.conditioning("a cat"))
    own = alone[name].feature_map(layer)
    _, s, vt = torch.linalg.svd(dense_jacobian(lambda x: own(x, t, under), x), full_matrices=False)
    lin = model.linearization(layer, x, t, under)
    assert lin.backend == "program"
    torch.testing.assert_close(lin.y, own(x, t, under), rtol=1e-5, atol=1e-6)  # times are embedded in float32
    basis = latentjac.svd(lin, 3, tol=1e-6)
    torch.testing.assert_close(basis.s.flatten(), s[:3], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(basis.v.reshape(3, -1) @ vt[:3].T).min() > 1 - 1e-3


def test_a_linearization_holds_on_its_side(model) -> None:
    x, under = sample(model), few_tokens(model.conditioning("a cat"))
    lin = model.linearization("eps", x, HIGH, under)
    lin.rebase(x, torch.tensor(800.0), *under.values())
    with pytest.raises(ValueError, match=r"t must be 750 or above, where 'transformer' is used, got 300.0: linearize"):
        lin.rebase(x, LOW, *under.values())
    below = model.linearization("eps", x, LOW, under)
    with pytest.raises(ValueError, match=r"t must be below 750, where 'transformer_2' is used, got 900.0: linearize"):
        below.rebase(x, HIGH, *under.values())
    torch.testing.assert_close(model.linearization("eps", x, LOW, under).y, model.eps(x, LOW, under))


def test_one_trace_serves_a_side(model, monkeypatch) -> None:
    traced = []
    monkeypatch.setattr(engine, "trace", lambda *args, own=engine.trace: traced.append(args) or own(*args))
    fresh = pickle.loads(pickle.dumps(model))
    x, under = sample(model), few_tokens(fresh.conditioning("a cat"))
    for t in (900.0, 300.0, 850.0, 200.0, 760.0):
        lin = fresh.linearization("eps", x, torch.tensor(t), under)
        torch.testing.assert_close(lin.y, model.eps(x, torch.tensor(t), under))
    assert len(traced) == 2


def test_a_function_of_ones_own_holds_at_its_timestep(model, alone) -> None:
    x, under = sample(model), few_tokens(model.conditioning("a cat"))
    lin = latentjac.linearize(lambda x, t: model.eps(x, t, under), x, HIGH)
    v = sample(model)[None]
    for t, name in ((HIGH, "transformer"), (LOW, "transformer_2")):
        lin.rebase(x, t)
        expected = alone[name].linearization("eps", x, t, under)
        torch.testing.assert_close(lin.jvp(v), expected.jvp(v))


def test_a_way_through_both_and_back(model) -> None:
    video = torch.rand(1, 3, 5, 8, 16, generator=torch.Generator().manual_seed(0))
    solver, grid = latentjac.diffusion.Implicit(3e-4), latentjac.diffusion.Own()
    under = few_tokens(model.conditioning("a cat"))
    path = latentjac.invert(model, video, 10, conditioning=under, grid=grid, solver=solver)
    assert path.psnr[0] > 40
    assert {model.part_at(torch.tensor(float(t))) for t in path.schedule.timesteps} == {"transformer", "transformer_2"}


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(latentjac.LoadError, match=r"transformer_2: ffn_dim must be that of transformer, 32, got 48"):
        latentjac.load(build_staged_wan(blocks=2, ffn_dim=48), size=(8, 16), frames=5)
    pipeline = build_staged_wan(blocks=2)
    pipeline.register_to_config(boundary_ratio=None)
    with pytest.raises(latentjac.LoadError, match=r"boundary_ratio .* must be a number between 0 and 1, got None: set"):
        latentjac.load(pipeline, size=(8, 16), frames=5)


def test_the_networks_of_a_pipeline_stay_as_they_are() -> None:
    pipeline = build_staged_wan(blocks=2)
    block = pipeline.transformer.blocks[1]
    model = latentjac.load(pipeline, size=(8, 16), frames=5)
    assert isinstance(model.network, StagedWan)
    assert pipeline.transformer.blocks[1] is block
    assert model.network.transformer.blocks[1].block is block
