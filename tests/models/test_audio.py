"""Samples that are sound, or series of any kind: no pictures, and no codec unless there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import build_scheduler, randomize
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Method, masked_basis, walk_frames

SHAPE = (2, 12)  # channels, length


class Wave(torch.nn.Module):
    """Convolutions along the time, shifted by the level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Conv1d(channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = x + (t / 1000).reshape(-1, 1, 1)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    network = randomize(Wave(SHAPE[0]))
    return latentjac.Model(
        network,
        build_scheduler(),
        call=lambda net, x, t, c: net(x, t),
        layers={"mid": network.blocks[1]},
        sample_shape=SHAPE,
    )


@pytest.fixture(scope="module")
def path(model) -> latentjac.Trajectory:
    clean = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return latentjac.invert(model, clean, 6, grid=Own(), solver=Implicit(3e-4), input_type="latent")


def test_ready_samples_go_up_and_come_back(model, path) -> None:
    assert path.samples[0].shape == (2, *SHAPE)
    error = path.reconstruction - path.samples[0]
    assert error.norm() < 1e-2 * path.samples[0].norm()
    spans = path.samples[0].flatten(1).amax(1) - path.samples[0].flatten(1).amin(1)
    expected = 10 * torch.log10(spans.square() / error.flatten(1).square().mean(1))
    torch.testing.assert_close(torch.tensor(path.psnr), expected.float(), rtol=1e-4, atol=0)
    assert min(path.psnr) > 40


@pytest.mark.parametrize("layer", ["mid", "eps"])
def test_bases_are_those_of_the_dense_jacobian(model, path, layer: str) -> None:
    point = path.at(0.6).rows(slice(1))
    t = torch.tensor(point.timestep)
    features = model.feature_map(layer)
    _, s, vt = torch.linalg.svd(dense_jacobian(lambda x: features(x, t), point.sample), full_matrices=False)
    basis = latentjac.local_basis(model, point, 3, layer, tol=1e-8)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-6, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-5


@pytest.mark.parametrize(
    "method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()], ids=repr
)
def test_edits_without_a_codec_have_samples_and_no_images(model, path, method: Method) -> None:
    point = path.at(0.6).rows(slice(1))
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3
    assert edit.images == []
    with pytest.raises(ValueError, match=r"image: samples must be pictures or videos, got \[2, 12\] without"):
        edit.image(0, 0)
    with pytest.raises(ValueError, match="walk_frames: model must be one of pictures or videos"):
        walk_frames(model, point, edit)


def test_a_mask_marks_a_time(model, path) -> None:
    point = path.at(0.6).rows(slice(1))
    inside = torch.arange(12) < 5
    t = torch.tensor(point.timestep)
    jacobian = dense_jacobian(lambda x: model.x0(x, t), point.sample).view(*SHAPE, -1)
    basis = masked_basis(model, point, inside, 2, tol=1e-8)
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(jacobian[:, inside].flatten(0, 1))[:2], rtol=1e-6, atol=0)
    edit = latentjac.edit(model, point, basis.v[:1], 1.0, method=Linear(), mask=Mask(inside, null_rank=0))
    change = edit.samples[0, 0] - latentjac.sample(model, point, output_type="latent")[0]
    within, beyond = (change[:, part].square().mean().sqrt() for part in (inside, ~inside))
    torch.testing.assert_close(edit.leakage[0, 0], beyond / within, rtol=1e-4, atol=0)


def test_points_are_saved(path, tmp_path: Path) -> None:
    point = path.at(0.3)
    assert torch.equal(latentjac.Point.load(point.save(tmp_path / "p.safetensors")).sample, point.sample)


def test_what_needs_a_codec_is_named(model) -> None:
    with pytest.raises(ValueError, match=r"invert: image must go to a model with a codec.*input_type='latent'"):
        latentjac.invert(model, torch.zeros(1, *SHAPE))
    with pytest.raises(ValueError, match=r"invert: image must have shape \[B, \*\[2, 12\]\], got \[2, 12\]"):
        latentjac.invert(model, torch.zeros(SHAPE), input_type="latent")
    with pytest.raises(ValueError, match=r"invert: input_type must be one of .*got 'sound'"):
        latentjac.invert(model, torch.zeros(1, *SHAPE), input_type="sound")
    with pytest.raises(ValueError, match="sample: samples must be those of a model with a codec"):
        latentjac.sample(model, num_inference_steps=2)
