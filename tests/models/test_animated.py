"""AnimateDiff: networks that take frames as further rows of a batch, and features that are videos all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pipelines import build_stable_diffusion
from truth import dense_jacobian
from video_pipelines import build_animatediff

import latentjac
from latentjac.editing.injection import predict_injected
from latentjac.models import VideoLatentCodec
from latentjac.models.feature_maps import as_returned

FRAMES = 3
KINDS = [diffusers.AnimateDiffPipeline, diffusers.AnimateDiffSDXLPipeline]
T = torch.tensor(500)


def load(folder: Path, kind: Any = KINDS[0], **options: Any) -> latentjac.Model:
    return latentjac.load(build_animatediff(folder, kind), frames=FRAMES, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> latentjac.Model:
    return load(tmp_path_factory.mktemp("animated"), dtype=torch.float64)


@pytest.fixture
def point(model) -> latentjac.Point:
    under = {"prompt": "a cat", "negative_prompt": "dog", "guidance_scale": 3.0}
    return latentjac.noise_point(model, num_inference_steps=4, **under)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_videos_are_those_of_diffusers(tmp_path: Path, kind: Any, scale: float) -> None:
    pipeline = build_animatediff(tmp_path, kind)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, frames=FRAMES)
    noise = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    options = {"num_inference_steps": 4, "guidance_scale": scale, "output_type": "np"}
    given = {"height": 16, "width": 16, "num_frames": FRAMES}
    theirs = pipeline("a cat", negative_prompt="blue", latents=noise, **given, **options).frames
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(model, prompt="a cat", negative_prompt="blue", generator=generator, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_frames_know_of_each_other(model, point) -> None:
    """The layers between frames are the adapter's: a change of the last frame changes what is made of the first."""
    changed = point.sample.clone()
    changed[:, :, -1] += 1
    plain, other = (model.eps(x, T, point.conditioning) for x in (point.sample, changed))
    assert (plain[:, :, 0] - other[:, :, 0]).abs().max() > 1e-3


def test_mid_is_a_video_of_features(model, point) -> None:
    features = model.feature_map("mid")(point.sample, T, point.conditioning)
    assert list(features.shape) == [1, 16, FRAMES, 4, 4]
    returned = as_returned(model, "mid_block", features)
    assert list(returned.shape) == [FRAMES, 16, 4, 4]
    assert torch.equal(returned[2], features[0, :, 2])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ("time_embedding", [2, 32]),
        ("mid_block.attentions.0.transformer_blocks.0", [2, FRAMES, 16, 16]),  # tokens of each frame
        ("mid_block.motion_modules.0.transformer_blocks.0", [2, 16, FRAMES, 16]),  # frames of each token
        ("mid+up_blocks.0", [2, FRAMES, 2 * 16 * 16 + 16 * 8 * 8 - 16 * 16]),
    ],
)
def test_features_of_other_layers(model, point, layer: str, shape: list[int]) -> None:
    x = torch.cat([point.sample, point.sample * 0.5])
    features = model.feature_map(layer)(x, T, point.conditioning)
    assert list(features.shape) == shape
    one = model.feature_map(layer)(x[1:], T, point.conditioning)
    torch.testing.assert_close(features[1:], one)
    if "+" not in layer:
        assert len(as_returned(model, layer, features)) % len(x) == 0


@pytest.mark.parametrize("layer", ["mid_block", "mid_block.motion_modules.0.transformer_blocks.0"])
def test_features_are_injected_where_they_came_from(model, point, layer: str) -> None:
    features = model.feature_map(layer)(point.sample, T, point.conditioning)
    offset = torch.randn(features.shape, generator=torch.Generator().manual_seed(0), dtype=features.dtype)
    returned = as_returned(model, layer, offset)
    twice = torch.cat([returned, returned])  # under the prompt and under the negative one
    block = model.network.get_submodule(layer)
    handle = block.register_forward_hook(lambda module, inputs, out: out + twice)
    expected = model.eps(point.sample, T, point.conditioning)
    handle.remove()
    found = predict_injected(model, point.sample, point, 500, layer, offset)
    torch.testing.assert_close(found, expected)
    assert (found - model.eps(point.sample, T, point.conditioning)).norm() > 1e-3


def test_bases_are_those_of_the_dense_jacobian(model, point) -> None:
    found = []
    handle = model.network.mid_block.register_forward_hook(lambda module, inputs, out: found.append(out))

    def mid(x: torch.Tensor) -> torch.Tensor:
        found.clear()
        model.call(model.network, x, torch.tensor(point.timestep), point.conditioning.unguided())
        return found[0][None]

    _, s, vt = torch.linalg.svd(dense_jacobian(mid, point.sample), full_matrices=False)
    handle.remove()
    basis = latentjac.local_basis(model, point, 3, tol=1e-6)
    torch.testing.assert_close(basis.s.flatten(), s[:3], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(basis.v.reshape(3, -1) @ vt[:3].T).min() > 1 - 1e-3


def test_autoencoders_of_pictures_take_frame_by_frame(model) -> None:
    codec = VideoLatentCodec(model.codec.autoencoder, (FRAMES, 8, 8))
    assert (codec.frames, codec.size) == (FRAMES, (16, 16))
    videos = torch.rand(2, 3, FRAMES, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = codec.encode(videos)
    pictures = latentjac.models.LatentCodec(model.codec.autoencoder, 8)
    torch.testing.assert_close(latents[:, :, 1], pictures.encode(videos[:, :, 1]))
    torch.testing.assert_close(codec.decode(latents)[1, :, 2], pictures.decode(latents[1:, :, 2])[0])


def test_what_is_not_given_is_named(tmp_path: Path) -> None:
    pipeline = build_animatediff(tmp_path)
    pipeline.unet.register_to_config(in_channels=9)
    with pytest.raises(latentjac.LoadError, match=r"in_channels must be 4, as out_channels, got 9, so it gets"):
        latentjac.load(pipeline, frames=FRAMES)
    controlled = diffusers.AnimateDiffControlNetPipeline
    parts = {k: v for k, v in build_animatediff(tmp_path).components.items() if k in controlled._get_signature_types()}
    network = diffusers.ControlNetModel.from_unet(build_stable_diffusion(tmp_path).unet)
    with pytest.raises(latentjac.LoadError, match=r"got AnimateDiffControlNetPipeline with .* beside .*'controlnet'"):
        latentjac.load(controlled(**parts, controlnet=network), frames=FRAMES)
