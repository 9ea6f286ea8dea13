"""Embeddings of pictures for IP-Adapters: ready ones, their guidance, scales, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from networks import randomize
from PIL import Image
from pipelines import build_prompted, build_stable_diffusion

import latentjac

PICTURE = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
PHOTO = Image.fromarray((PICTURE[0].movedim(0, -1) * 255).numpy().astype("uint8"))
EMBEDDING = torch.rand(2, 12, generator=torch.Generator().manual_seed(1))


def build(folder: Path, *tokens: bool) -> Any:
    pipeline = build_prompted(folder, diffusers.StableDiffusionPipeline, tokens or (False,))
    randomize(pipeline.unet).float()
    return pipeline


def test_a_picture_is_a_file_an_image_or_numbers(tmp_path: Path) -> None:
    model = latentjac.load(build(tmp_path))
    PHOTO.save(tmp_path / "photo.png")
    pixels = torch.tensor(list(PHOTO.getdata()), dtype=torch.uint8).reshape(20, 24, 3)
    found = [
        model.conditioning("a", image_prompt=p)
        for p in (PHOTO, tmp_path / "photo.png", pixels.movedim(-1, 0), pixels.numpy(), pixels.movedim(-1, 0) / 255)
    ]
    assert all(c == found[0] for c in found)
    assert found[0]["image_embedding"].shape == (1, 1, 12)
    two = model.conditioning(["a", "b"], image_prompt=[PHOTO, PHOTO.rotate(90)])
    torch.testing.assert_close(two["image_embedding"][:1], found[0]["image_embedding"])
    assert two["image_embedding"].shape == (2, 1, 12)


def test_guidance_leads_away_from_no_picture(tmp_path: Path) -> None:
    pipeline = build(tmp_path, False, True)
    model = latentjac.load(pipeline)
    c = model.conditioning("a", guidance_scale=2.0, image_prompt=[PHOTO, PHOTO])
    theirs = pipeline.prepare_ip_adapter_image_embeds([PHOTO, PHOTO], None, "cpu", 1, True)
    for ours, both in zip(("image_embedding", "image_embedding_2"), theirs, strict=True):
        torch.testing.assert_close(torch.cat([c.guidance.negative[ours], c[ours]]), both)
    point = latentjac.noise_point(model, num_inference_steps=4, conditioning=c)
    assert point.with_prompt(model, "a", guidance_scale=2.0).conditioning == c
    assert latentjac.Point.load(point.save(tmp_path / "point.safetensors")).conditioning == c
    ready = {"image_embedding": EMBEDDING[0], "negative_image_embedding": EMBEDDING[1]}
    own = latentjac.load(build(tmp_path)).conditioning("a", guidance_scale=2.0, **ready)
    assert torch.equal(own["image_embedding"][0, 0], EMBEDDING[0])
    assert torch.equal(own.guidance.negative["image_embedding"][0, 0], EMBEDDING[1])


def test_scales_and_adapters_that_come_later_count_at_once(tmp_path: Path) -> None:
    pipeline = build(tmp_path)
    model = latentjac.load(pipeline)
    c = model.conditioning("a", image_embedding=EMBEDDING[0])
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor(300)
    values, identities = {}, set()
    for scale in (1.0, 0.5, 0.0):
        pipeline.set_ip_adapter_scale(scale)
        values[scale] = model.eps(x, t, c)
        identities.add(model.identity())
    assert len(identities) == 3
    assert (values[1.0] - values[0.5]).abs().max() > 1e-2
    pipeline.unload_ip_adapter()
    torch.testing.assert_close(model.eps(x, t, model.conditioning("a")), values[0.0])
    with pytest.raises(ValueError, match=r"eps: conditioning must hold \['text'\].* got \['text', 'image_embedding'\]"):
        model.eps(x, t, c)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    one, two = latentjac.load(build(tmp_path)), latentjac.load(build(tmp_path, False, False))
    for model, given, message in (
        (one, {}, "image_prompt or image_embedding must be given since .* got none"),
        (
            one,
            {"image_embedding": EMBEDDING[:, :3]},
            r"image_embedding must have shape \[B, pictures, 12\], got \[2, 3\]",
        ),
        (one, {"image_prompt": []}, "image_prompt must be at least one picture"),
        (two, {"image_prompt": PHOTO}, "image_prompt must be a list of 2, one each adapter, got Image"),
        (two, {"image_embedding": [EMBEDDING]}, "image_embedding must be a list of 2, one each adapter, got 1"),
    ):
        with pytest.raises(ValueError, match=f"conditioning: {message}"):
            model.conditioning("a", **given)
    plain = latentjac.load(build_stable_diffusion(tmp_path))
    with pytest.raises(ValueError, match=r"image_prompt must be left at None since .* gets no embedding of a picture"):
        plain.conditioning("a", image_prompt=PHOTO)
    pipeline = build(tmp_path)
    layers = pipeline.unet.encoder_hid_proj.image_projection_layers
    layers[0] = diffusers.models.embeddings.IPAdapterFaceIDPlusImageProjection(12, 12, 8, 12, 2, 4, 2, 2)
    with pytest.raises(latentjac.LoadError, match=r"must be of .*, got IPAdapterFaceIDPlusImageProjection .*Model\("):
        latentjac.load(pipeline)
