"""Samples that are videos: frames are a dimension of their own, from a network of one's own to whole pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import build_scheduler, randomize
from truth import dense_jacobian

import latentjac
from latentjac.diffusion import DDIM, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Method, masked_basis, walk_frames
from latentjac.geometry import FeatureMap, ascent_directions, principal_components
from latentjac.models import VideoCodec, to_frames

SHAPE = (3, 3, 4, 5)  # channels, frames, height, width


class Blocks(torch.nn.Module):
    """Convolutions over frames and places, shifted by the time."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Conv3d(channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = x + (t / 1000).reshape(-1, 1, 1, 1, 1)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return x


def build(shape: tuple[int, ...] = SHAPE) -> latentjac.Model:
    network = randomize(Blocks(shape[0]))
    return latentjac.Model(
        network,
        build_scheduler(),
        call=lambda net, x, t, c: net(x, t),
        layers={"mid": network.blocks[1]},
        sample_shape=shape,
    )


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return build()


@pytest.fixture(scope="module")
def path(model) -> latentjac.Trajectory:
    video = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    return latentjac.invert(model, video, 20, grid=Own(), solver=DDIM(4))


def mid(model: latentjac.Model, timestep: float) -> object:
    first, second, _ = model.network.blocks
    return lambda x: second(torch.tanh(first(x + timestep / 1000)))


@pytest.mark.parametrize("layer", ["mid", "x0"])
def test_bases_are_those_of_the_dense_jacobian(model, path, layer: str) -> None:
    assert path.psnr[0] > 40
    point = path.at(0.6)
    t = torch.tensor(point.timestep)
    f = mid(model, point.timestep) if layer == "mid" else lambda x: model.x0(x, t)
    _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
    basis = latentjac.local_basis(model, point, 3, layer, tol=1e-8)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-6, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-5
    assert basis.v.shape == (3, *SHAPE)


@pytest.mark.parametrize(
    "method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()], ids=repr
)
def test_edits(model, path, method: Method) -> None:
    point = path.at(0.6)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions, [0.0, 1.0], method=method)
    assert edit.samples.shape == (2, 2, *SHAPE)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3
    frames = latentjac.diffusion.render(model, edit.samples.flatten(0, 1), "pil")
    assert [len(video) for video in frames] == [3] * 4
    assert all(np.array_equal(image, video[1]) for image, video in zip(edit.images, frames, strict=True))
    assert len(walk_frames(model, point, edit, 1, 3).images) == 3


def test_saved_points_come_back(path, tmp_path: Path) -> None:
    point = path.at(0.6)
    assert torch.equal(latentjac.Point.load(point.save(tmp_path / "p.safetensors")).sample, point.sample)
    again = latentjac.Trajectory.load(path.save(tmp_path / "t.safetensors"))
    assert torch.equal(again.samples, path.samples)
    assert again.samples.shape == (21, 1, *SHAPE)


def test_samples_of_every_type(model) -> None:
    def sampled(kind: str) -> object:
        return latentjac.sample(
            model, num_images=2, num_inference_steps=3, generator=torch.Generator().manual_seed(1), output_type=kind
        )

    latent, tensor, array, pil = (sampled(kind) for kind in ("latent", "pt", "np", "pil"))
    assert latent.shape == tensor.shape == (2, *SHAPE)
    torch.testing.assert_close(tensor, (latent.float() / 2 + 0.5).clamp(0, 1))
    np.testing.assert_array_equal(array, tensor.permute(0, 2, 3, 4, 1).numpy())
    assert [len(video) for video in pil] == [3, 3]
    assert pil[0][0].size == (5, 4)
    np.testing.assert_allclose(np.asarray(pil[1][2]), array[1, 2] * 255, atol=0.5001)


def test_masks_of_frames_and_of_places(model, path) -> None:
    point = path.at(0.6)
    places = torch.zeros(4, 5, dtype=torch.bool)
    places[:2, :2] = True
    frames = torch.zeros(3, 4, 5, dtype=torch.bool)
    frames[1] = places
    t = torch.tensor(point.timestep)
    jacobian = dense_jacobian(lambda x: model.x0(x, t), point.sample).view(*SHAPE, -1)
    for mask, inside in ((places, places.expand(3, 4, 5)), (frames, frames)):
        s = torch.linalg.svdvals(jacobian[:, inside].flatten(0, 1))
        basis = masked_basis(model, point, mask, 2, tol=1e-8)
        torch.testing.assert_close(basis.s, s[:2], rtol=1e-6, atol=0)
        assert not basis.u[:, :, ~inside].any()
    edits = [
        latentjac.edit(model, point, basis.v[:1], 2.0, method=Linear(), mask=Mask(frames, null_rank=rank))
        for rank in (0, 20)
    ]
    assert edits[1].leakage.item() < 0.8 * edits[0].leakage.item()
    change = model.codec.decode(edits[0].samples[0]) - latentjac.sample(model, point, output_type="pt")
    within, beyond = (change[0, :, part].double().square().mean().sqrt() for part in (frames, ~frames))
    torch.testing.assert_close(edits[0].leakage[0, 0], beyond / within, rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match=r"edit: mask must be bool \[3, 4, 5\] or \[4, 5\], got torch.bool \[3, 5\]"):
        latentjac.edit(model, point, basis.v[:1], 2.0, mask=frames[:, 0])


def test_principal_components_and_ascent(model) -> None:
    point = latentjac.noise_point(model, 6, num_inference_steps=4, generator=torch.Generator().manual_seed(0))
    found = principal_components(point.sample, 2)
    assert found.directions.shape == (2, *SHAPE)
    features = FeatureMap.at(model, point.rows(slice(1)), "mid")
    x = point.sample[:1]
    jacobian = dense_jacobian(mid(model, point.timestep), x)
    expected = torch.nn.functional.normalize(found.directions.flatten(1) @ jacobian)
    torch.testing.assert_close(ascent_directions(features, x, found.directions).flatten(1), expected)


def test_the_same_video_in_every_form(tmp_path: Path) -> None:
    codec = VideoCodec((3, 4, 5))
    values = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0)).mul(255).round()  # C, F, H, W
    video = values / 255
    array = video.permute(1, 2, 3, 0).numpy()
    whole = values.permute(1, 2, 3, 0).numpy().astype("uint8")
    frames = to_frames(video[None])[0]
    forms = [
        video, video[None], values.to(torch.uint8), array, array[None], whole, frames, [frames], [video],
        list(video.transpose(0, 1)),
    ]  # fmt: skip
    for form in forms:
        torch.testing.assert_close(codec.encode(form), video[None] * 2 - 1, rtol=0, atol=1e-6)
    assert codec.encode([frames, video, array]).shape == (3, *video.shape)
    file = tmp_path / "video.webp"
    frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
    torch.testing.assert_close(codec.encode(file), video[None] * 2 - 1, rtol=0, atol=1e-6)
    torch.testing.assert_close(codec.decode(video[None] * 2 - 1), video[None])


def test_the_command_line_takes_models_of_pictures(model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = pytest.importorskip("latentjac.cli.stages")
    from latentjac.cli.refusals import Refusal
    from latentjac.cli.run_folder import RunFolder

    monkeypatch.setattr(latentjac, "load", lambda source, **given: model)
    with (
        pytest.raises(Refusal, match="--model must be one of pictures, got clips, whose samples are videos"),
        RunFolder(tmp_path / "out", "invert", {}) as run,
    ):
        stages.load_model(run, "clips", "cpu")


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(3, 2, 4, 5), r"encode: videos must be a float tensor \[B, 3, 3, 4, 5\], got .* \[3, 2, 4, 5\]"),
        (torch.full((3, 3, 4, 5), 2.0), r"must have values in \[0, 1\], got \[2, 2\]"),
        ([torch.zeros(3, 4, 5)] * 2, "encode: videos must have 3 frames, got 2"),
        ([torch.zeros(3, 4, 5), torch.zeros(3, 4, 5), torch.zeros(3, 4, 6)], r"encode: videos\[2\] must be a float"),
        ([], "at least one video, got an empty list"),
        (3, "must be a list of frames, an animated picture or its path, an array or a tensor, got int"),
        (np.zeros((3, 4)), "got ndarray"),
    ],
)
def test_wrong_videos_are_named(video: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        VideoCodec((3, 4, 5)).encode(video)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"VideoCodec: size must be \(frames, height, width\), got \(4, 5\)"):
        VideoCodec((4, 5))
    with pytest.raises(ValueError, match=r"to_frames: videos must have shape \[B, C, F, H, W\] with C = 1 or 3 or 4"):
        to_frames(torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"Model: sample_shape must be ints such as \(C, H, W\), got \(3, 'a'\)"):
        build((3, "a"))
