"""Pipelines of videos: equal to those of diffusers, with bases, edits and layers whose features are videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXImageToVideoPipeline, LTXImageToVideoPipeline, WanImageToVideoPipeline
from networks import few_tokens
from truth import dense_jacobian
from video_pipelines import (
    build_cogvideox,
    build_cogvideox_autoencoder,
    build_hunyuan_video,
    build_hunyuan_video_autoencoder,
    build_ltx,
    build_ltx_autoencoder,
    build_wan,
    build_wan_autoencoder,
)

import latentjac
from latentjac.diffusion import Implicit, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method
from latentjac.models import VideoLatentCodec
from latentjac.models.feature_maps import as_returned

PROMPTS = ["a red cat", "a dog"]


@dataclass(frozen=True)
class Family:
    """What tests of a family need.

    Attributes:
        build: Its pipeline.
        size: Of frames.
        frames: Of a video.
        given: Latents as its pipeline takes them.
        tokens: Where tokens of the middle block are.
        small: A size of frames for dense Jacobians.
        short: Options of the pipeline for short texts, where the network knows how long they are.
        is_v: Whether the network predicts v, else a velocity of flow matching.
    """

    build: Callable[..., Any]
    size: tuple[int, int]
    frames: int
    given: Callable[[torch.Tensor], torch.Tensor]
    tokens: tuple[int, int, int]
    small: tuple[int, int]
    short: dict[str, int] = field(default_factory=dict)
    is_v: bool = False


FAMILIES = {
    "wan": Family(build_wan, (16, 32), 5, lambda x: x, (2, 2, 4), (8, 16)),
    "cogvideox": Family(
        build_cogvideox,
        (16, 32),
        9,
        lambda x: x.transpose(1, 2),
        (3, 2, 4),
        (8, 16),
        {"max_text_seq_length": 12},
        is_v=True,
    ),
    "ltx": Family(build_ltx, (32, 64), 5, lambda x: x.flatten(2).transpose(1, 2), (2, 2, 4), (32, 32)),
}


def first(out: Any) -> torch.Tensor:
    """What a block makes of the video, before what it makes of a text."""
    return out[0] if isinstance(out, tuple) else out


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def model(family) -> latentjac.Model:
    return latentjac.load(family.build(**family.short), size=family.size, frames=family.frames, dtype=torch.float64)


def short(model: latentjac.Model, prompt: str | list[str], *away: Any) -> latentjac.Conditioning:
    """A conditioning of few tokens."""
    under = model.conditioning(prompt, *away)
    return under if model.network.config.get("max_text_seq_length") else few_tokens(under)


def turned() -> Any:
    return build_cogvideox(use_rotary_positional_embeddings=True)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("name", [*FAMILIES, "cogvideox turned"])
def test_videos_are_those_of_diffusers(name: str, scale: float) -> None:
    family = FAMILIES.get(name) or replace(FAMILIES["cogvideox"], build=turned)
    pipeline = family.build()
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=family.size, frames=family.frames)
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    options = {"num_inference_steps": 4, "guidance_scale": scale, "output_type": "np"}
    height, width = family.size
    given = {"latents": family.given(noise), "height": height, "width": width, "num_frames": family.frames}
    theirs = pipeline(PROMPTS, ["blue"] * 2, **given, **options).frames
    generator = torch.Generator().manual_seed(2)
    ours = latentjac.sample(model, num_images=2, prompt=PROMPTS, negative_prompt="blue", generator=generator, **options)
    assert ours.shape == (2, family.frames, height, width, 3)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2


def test_there_and_back_under_two_prompts(family, model) -> None:
    videos = torch.rand(2, 3, family.frames, *family.size, generator=torch.Generator().manual_seed(0))
    path = latentjac.invert(model, videos, 5, conditioning=short(model, PROMPTS), grid=Own(), solver=Implicit(3e-4))
    assert min(path.psnr) > 40
    assert path.at(0.6).conditioning.num_rows == 2
    assert latentjac.diffusion.render(model, path.reconstruction, "pt").shape == videos.shape


@pytest.mark.parametrize("layer", ["mid", "x0"])
def test_bases_are_those_of_the_dense_jacobian(family, layer: str) -> None:
    model = latentjac.load(family.build(**family.short), size=family.small, frames=family.frames, dtype=torch.float64)
    point = latentjac.noise_point(model, num_inference_steps=5, conditioning=short(model, "a cat", "dog", 3.0))
    t, found = torch.tensor(point.timestep), []
    handle = model.network.get_submodule(model.layers["mid"]).register_forward_hook(
        lambda m, i, out: found.append(first(out))
    )

    def f(x: torch.Tensor) -> torch.Tensor:
        found.clear()
        plain = model.call(model.network, x, t, point.conditioning.unguided())
        if layer == "mid":
            return found[0].mT  # tokens last, in their order
        away = model.call(model.network, x, t, point.conditioning.guidance.negative)
        return (point.signal if family.is_v else 1.0) * x - point.noise * (away + 3 * (plain - away))

    _, s, vt = torch.linalg.svd(dense_jacobian(f, point.sample), full_matrices=False)
    handle.remove()
    basis = latentjac.local_basis(model, point, 3, layer, tol=1e-6)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-3, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-3


def test_mid_is_a_video_of_features(family, model) -> None:
    point = latentjac.noise_point(model, prompt="a cat")
    features = model.feature_map("mid")(point.sample, torch.tensor(500.0), point.conditioning)
    config = model.network.config
    assert list(features.shape) == [1, config.num_attention_heads * config.attention_head_dim, *family.tokens]
    assert torch.equal(as_returned(model, model.resolve_layer("mid"), features).mT.reshape(features.shape), features)
    inner = model.feature_map(f"{model.layers['mid']}.attn1")
    assert inner(point.sample, torch.tensor(500.0), point.conditioning).ndim == 3  # others are as the module gives them


@pytest.mark.parametrize(
    "method", [Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace()], ids=repr
)
def test_edits(model, method: Method) -> None:
    under = short(model, "a cat", "", 2.0)
    point = replace(latentjac.noise_point(model, num_inference_steps=3, conditioning=under), level=2)
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    directions = basis.u if method.in_features else basis.v
    edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
    torch.testing.assert_close(edit.samples[0, :1], latentjac.sample(model, point, output_type="latent"))
    assert (edit.samples[0, 1] - edit.samples[0, 0]).norm() > 1e-3
    assert edit.images[0].size == model.codec.size[::-1]


def test_features_are_injected_where_they_came_from(model) -> None:
    """What is added to features is added to what the block returns, in its order of tokens."""
    point = replace(latentjac.noise_point(model, num_inference_steps=3, conditioning=short(model, "a cat")), level=2)
    block = model.network.get_submodule(model.layers["mid"])
    t = torch.tensor(point.timestep)
    offset = torch.zeros_like(model.feature_map("mid")(point.sample, t, point.conditioning))
    values = torch.randn(offset.shape[1], generator=torch.Generator().manual_seed(0), dtype=offset.dtype)
    offset[0, :, 1, 0, 2] = values  # one token: of the second frame, first row, third column
    tokens = torch.zeros(1, offset[0, 0].numel(), offset.shape[1], dtype=offset.dtype)
    tokens[0, offset[0, 0, 0].numel() + 2] = values
    handle = block.register_forward_hook(
        lambda m, inputs, out: (out[0] + tokens, *out[1:]) if isinstance(out, tuple) else out + tokens
    )
    expected = model.eps(point.sample, t, point.conditioning)
    handle.remove()
    found = latentjac.editing.injection.predict_injected(model, point.sample, point, point.timestep, "mid", offset)
    torch.testing.assert_close(found, expected)
    assert (found - model.eps(point.sample, t, point.conditioning)).norm() > 1e-3


@pytest.mark.parametrize(
    ("autoencoder", "each", "pixels", "causal"),
    [
        (build_wan_autoencoder, 4, 4, True),
        (build_ltx_autoencoder, 4, 16, True),
        (build_hunyuan_video_autoencoder, 4, 4, False),  # its norms see all frames
        (build_cogvideox_autoencoder, 4, 4, False),  # its norms see all frames
    ],
)
def test_latents_are_of_one_frame_and_then_of_several(autoencoder, each: int, pixels: int, causal: bool) -> None:
    codec = VideoLatentCodec(autoencoder().double(), (3, 2, 2))
    assert (codec.frames, codec.size) == (2 * each + 1, (2 * pixels, 2 * pixels))
    videos = torch.rand(2, 3, codec.frames, *codec.size, generator=torch.Generator().manual_seed(0))
    latents = codec.encode(videos)
    assert latents.shape == (2, codec.latent_channels, 3, 2, 2)
    assert codec.decode(latents).shape == videos.shape
    for last, alike in (
        ((each + 1, 2), (1, 1)) if causal else ()
    ):  # what comes later does not change the latents of what was before
        videos[:, :, last:] = 0.5
        torch.testing.assert_close(codec.encode(videos)[:, :, :alike], latents[:, :, :alike], rtol=0, atol=1e-5)
        assert (codec.encode(videos)[:, :, alike] - latents[:, :, alike]).abs().max() > 1e-4


def test_what_ltx_is_told_of_frames_and_pixels() -> None:
    model = latentjac.load(build_ltx(), size=(32, 64), frames=5)
    under = model.conditioning("a cat")
    assert under["frame_rate"].tolist() == [[25.0]]
    assert under["factors"].tolist() == [[4.0, 16.0, 16.0]]
    slow = latentjac.Conditioning({**under, "frame_rate": torch.tensor([[5.0]])})
    x, t = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(0)), torch.tensor(500.0)
    assert (model.eps(x, t, slow) - model.eps(x, t, under)).abs().max() > 1e-4


@pytest.mark.parametrize("distilled", [True, False])
def test_hunyuan_video_is_that_of_diffusers(distilled: bool) -> None:
    """Texts of two lengths; the scale of guidance is an input of the distilled one, the other is led by two texts."""
    pipeline = build_hunyuan_video(guidance_embeds=distilled)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=(16, 32), frames=5)
    noise = torch.randn(2, *model.sample_shape, generator=torch.Generator().manual_seed(2))
    options = {"num_inference_steps": 4, "guidance_scale": 4.0, "output_type": "np"}
    given = {"height": 16, "width": 32, "num_frames": 5, "latents": noise}
    away = {} if distilled else {"negative_prompt": ["blue"] * 2, "true_cfg_scale": 4.0}
    theirs = pipeline(PROMPTS, **away, **given, **options).frames
    options |= {"generator": torch.Generator().manual_seed(2), "negative_prompt": "" if distilled else "blue"}
    ours = latentjac.sample(model, num_images=2, prompt=PROMPTS, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2
    assert model.guidance_scale == (6.0 if distilled else 1.0)
    joint = model.feature_map("transformer_blocks.0")(noise[:1], torch.tensor(500.0), model.conditioning("a cat"))
    assert list(joint.shape) == [1, 24, 2, 2, 4]


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"load: frames must be a multiple of 4, .*, and 1, got 6"):
        latentjac.load(build_wan(), size=(16, 32), frames=6)
    with pytest.raises(ValueError, match=r"load: frames must be a multiple of 8, as AutoencoderKLCogVideoX takes them"):
        latentjac.load(build_cogvideox(), frames=5)
    with pytest.raises(ValueError, match=r"latent_size must have a multiple of 2 frames, and 1, for .*, got 2"):
        VideoLatentCodec(build_cogvideox_autoencoder(), (2, 2, 2))
    with pytest.raises(ValueError, match=r"load: size must be of multiples of 4, .* got \(15, 16\)"):
        latentjac.load(build_wan(), size=(15, 16), frames=5)
    with pytest.raises(ValueError, match=r"load: size must be one that the network takes, such as multiples of 8, "):
        latentjac.load(build_wan(), size=(12, 16), frames=5)
    with pytest.raises(ValueError, match="load: frames must be left at None for networks of pictures, got 5"):
        latentjac.load("faces", frames=5)
    with pytest.raises(ValueError, match="load: frames must be at least 1, got 0"):
        latentjac.load(build_wan(), frames=0)


def test_a_network_alone_has_samples_and_no_codec() -> None:
    pipeline = build_wan()
    model = latentjac.Model(pipeline.transformer, pipeline.scheduler, sample_shape=(4, 3, 4, 6))
    assert model.image_seq_len == 3 * 2 * 3
    with pytest.raises(ValueError, match="encode: images must go to a model with a codec"):
        model.codec.encode(torch.zeros(1, 3, 9, 8, 8))


def test_what_is_not_given_is_named() -> None:
    builders = {
        WanImageToVideoPipeline: build_wan,
        LTXImageToVideoPipeline: build_ltx,
        CogVideoXImageToVideoPipeline: build_cogvideox,
    }
    for kind, build in builders.items():
        parts = build().components
        with pytest.raises(latentjac.LoadError, match=f"it must be that of a .*, got one of a {kind.__name__}"):
            latentjac.load(kind(**{name: parts[name] for name in parts}))
    pictured = build_hunyuan_video(image_condition_type="latent_concat")
    with pytest.raises(latentjac.LoadError, match=r"image_condition_type must be None, got 'latent_concat', so"):
        latentjac.load(pictured, size=(16, 32), frames=5)
    noisy = build_ltx()
    noisy.vae.register_to_config(timestep_conditioning=True)
    with pytest.raises(latentjac.LoadError, match="its decoder draws noise at a timestep"):
        latentjac.load(noisy, size=(32, 64), frames=5)
