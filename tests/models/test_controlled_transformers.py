"""Networks that get a picture beside the sample: several ControlNets, what they see, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from controlled_pipelines import (
    build_controlled_flux,
    build_controlled_sd3,
    build_kandinsky_5_edit,
    build_qwen_image_edit,
    build_seeing_flux,
)
from families import SMALL
from family_checks import sample_error
from family_rows.given import LEFT, PHOTO
from image_transformers import build_flux2
from pictured_pipelines import build_kandinsky_inpaint
from PIL import Image
from truth import relative

import latentjac
from latentjac.models.adapters import ControlledTransformer, flux

STEPS, PROMPTS = 3, ["a red cat", "a dog"]
EDGES, POSE = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[4:12, 2:10] = True
BUILDERS = {"flux": build_controlled_flux, "sd3": build_controlled_sd3}


@pytest.mark.parametrize("name", BUILDERS)
def test_several_controlnets_under_two_prompts_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    pipeline = BUILDERS[name](tmp_path, count=2)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=16)
    assert isinstance(model.network, ControlledTransformer)
    own = {"control": [EDGES, POSE], "control_strength": [0.7, -0.4]}
    conditioning = model.conditioning(PROMPTS, guidance_scale=3.0, **own)
    generator = torch.Generator().manual_seed(1)
    options = {"num_images": 2, "num_inference_steps": STEPS, "generator": generator, "conditioning": conditioning}
    point = latentjac.noise_point(model, **options)
    packed = name == "flux"
    given = {"prompt": PROMPTS, "height": 16, "width": 16, "num_inference_steps": STEPS, "guidance_scale": 3.0}
    theirs = pipeline(
        **given,
        control_image=[2 * EDGES - 1, 2 * POSE - 1],
        controlnet_conditioning_scale=[0.7, -0.4],
        latents=flux.packed(point.sample) if packed else point.sample,
        output_type="latent",
    ).images
    ours = latentjac.sample(model, point, output_type="latent")
    assert relative(flux.packed(ours) if packed else ours, theirs) < 1e-5
    without = model.conditioning(PROMPTS, guidance_scale=3.0, **{**own, "control_strength": 0.0})
    other = latentjac.sample(
        model, latentjac.Point(point.sample, point.level, point.schedule, without), output_type="latent"
    )
    assert relative(other, ours) > 1e-2


def test_controlnets_on_their_own_are_told_what_they_see(tmp_path: Path) -> None:
    union = latentjac.load(build_controlled_flux(tmp_path, num_mode=3), size=16)
    kinds = [union.conditioning("a cat", control=EDGES, control_mode=mode) for mode in (0, 2)]
    x = torch.randn(1, *union.sample_shape, generator=torch.Generator().manual_seed(0))
    first, last = (union.eps(x, torch.tensor(500), conditioning) for conditioning in kinds)
    assert relative(first, last) > 1e-4
    with pytest.raises(ValueError, match=r"control_mode must be given since .* several kinds of pictures, got None"):
        union.conditioning("a cat", control=EDGES)
    with pytest.raises(ValueError, match=r"control_mode\[0\] must be at most 2, got 3"):
        union.conditioning("a cat", control=EDGES, control_mode=3)
    with pytest.raises(ValueError, match="control_mode must be 1 ints, one each network, got 2"):
        union.conditioning("a cat", control=EDGES, control_mode=[0, 1])
    plain = latentjac.load(build_controlled_flux(tmp_path), size=16)
    with pytest.raises(ValueError, match=r"control_mode must be .*None.* no ControlNet for several"):
        plain.conditioning("a cat", control=EDGES, control_mode=0)


def test_a_mask_of_pixels_is_all_that_counts_inside_of_it(tmp_path: Path) -> None:
    """Pictures that differ inside alone are the same to a network that fills them; masks of as many latents are not."""
    kind = partial(build_seeing_flux, kind=diffusers.FluxFillPipeline, in_channels=48, out_channels=16)
    model = latentjac.load(kind(tmp_path), size=16)
    moved = torch.where(MASK, POSE, EDGES)
    same, other = (model.conditioning("a cat", image=picture, mask=MASK) for picture in (EDGES, moved))
    assert torch.equal(same["image"], other["image"])
    assert same["mask"].shape == (1, 4, 8, 8)  # the pixels of a latent are channels
    assert same["mask"].sum() == MASK.sum()


def test_tokens_of_another_picture_are_no_features() -> None:
    """Behind the tokens of the text come those of the sample, then those of the picture."""
    pipeline = build_flux2(diffusers.Flux2KleinInpaintPipeline)
    model = latentjac.load(pipeline, size=16)
    conditioning = model.conditioning("a cat", image=EDGES)
    x = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    found: list[Any] = []
    block = model.network.get_submodule(model.layers["mid"])
    handle = block.register_forward_hook(lambda module, inputs, output: found.append(output))
    model.eps(x, torch.tensor(500), conditioning)
    handle.remove()
    tokens = x[0, 0].numel()
    words = conditioning["text"].shape[1]
    features = model.feature_map("mid")(x, torch.tensor(500), conditioning)
    assert found[0].shape[1] == words + 2 * tokens
    assert torch.equal(features, found[0][:, words : words + tokens])


def test_what_is_left_of_a_picture_is_what_kandinsky_leaves_of_it(tmp_path: Path) -> None:
    """What comes into the network at the first step, of a mask with a hole: later the pipeline paints into samples."""
    pipeline = build_kandinsky_inpaint(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    inside = torch.zeros(64, 64)
    inside[16:40, 8:24] = 1
    own = torch.rand(1, 12, generator=torch.Generator().manual_seed(4))
    entered: list[torch.Tensor] = []
    handle = model.network.register_forward_pre_hook(
        lambda module, inputs, named: entered.append(inputs[0] if inputs else named["sample"]), with_kwargs=True
    )
    noise = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(5))
    told = {"image_embeds": own, "negative_image_embeds": own, "height": 64, "width": 64, "guidance_scale": 1.0}
    pipeline(image=picture * 2 - 1, mask_image=inside[None, None].clone(), latents=noise, num_inference_steps=2, **told)
    theirs = entered[0]
    conditioning = model.conditioning(image_embedding=own, image=picture, mask=inside)
    entered.clear()
    model.call(model.network, noise, torch.tensor(500), conditioning)
    handle.remove()
    assert 0 < int((entered[0][:, -1] == 0).sum()) < 64
    assert relative(entered[0], theirs) < 1e-6


@pytest.mark.parametrize("name", ["bria-fibo-edit", "flux-2-klein-kv", "kandinsky-5-edit"])
def test_samples_are_nearer_to_those_of_the_pipeline_than_a_picture_changes_them(name: str, tmp_path: Path) -> None:
    """Small networks see little of it: less than what a row of all families may differ by."""
    row = SMALL[name]
    source = row.source(tmp_path)
    model = row.load(source)
    mirrored = row.given["image"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed = sample_error(replace(row, given={"image": mirrored}), source, model)
    assert sample_error(row, source, model) < 0.01 * changed


def test_texts_of_a_list_see_a_picture_each_of_what_kandinsky_edits(tmp_path: Path) -> None:
    pipeline = build_kandinsky_5_edit()
    model = latentjac.load(pipeline, size=64)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    both = model.conditioning(PROMPTS, image=pictures)
    lengths = []
    for i, prompt in enumerate(PROMPTS):
        own, other = (
            model.conditioning(prompt, image=picture)["text"][0] for picture in (pictures[i], pictures[1 - i])
        )
        lengths.append(len(own))
        assert relative(both["text"][i, : len(own)], own) < 1e-5
        assert relative(other, own) > 1e-3
    assert lengths[0] > lengths[1]
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(latentjac.LoadError, match=r"tokenizer must be a processor .* load the pipeline object"):
        latentjac.load(tmp_path, size=64)


@pytest.mark.parametrize("name", ["QwenImageEditPipeline", "QwenImageEditPlusPipeline"])
def test_a_text_that_sees_the_picture_does_so_under_other_prompts_and_in_lists(name: str) -> None:
    model = latentjac.load(build_qwen_image_edit(getattr(diffusers, name)), size=16)
    both = model.conditioning(PROMPTS, image=torch.cat([EDGES, POSE]))
    alone = [model.conditioning(prompt, image=picture) for prompt, picture in zip(PROMPTS, [EDGES, POSE], strict=True)]
    assert len(both["text"]) == 2
    for i, one in enumerate(alone):
        words = both["text_mask"][i].bool()
        assert torch.equal(both["text"][i, words], one["text"][0])
    assert relative(model.conditioning(PROMPTS[0], image=POSE)["text"], alone[0]["text"]) > 1e-4
    point = latentjac.noise_point(model, num_inference_steps=STEPS, conditioning=alone[0])
    moved = point.with_prompt(model, PROMPTS[1]).conditioning
    same = model.conditioning(PROMPTS[1], image=EDGES)
    assert all(torch.equal(moved[key], same[key]) for key in same)
    with pytest.raises(ValueError, match="image must be given since the network"):
        model.conditioning("a cat")


def test_several_networks_that_diffusers_does_not_write_are_named(tmp_path: Path) -> None:
    build_controlled_flux(tmp_path).save_pretrained(tmp_path / "saved")
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    index["controlnet"][1] = "FluxMultiControlNetModel"
    (tmp_path / "saved" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(latentjac.LoadError, match="source must be a pipeline object with several networks"):
        latentjac.load(tmp_path / "saved", size=16)


def test_several_pictures_are_seen_as_by_the_pipeline() -> None:
    pipeline = build_qwen_image_edit(diffusers.QwenImageEditPlusPipeline)
    pipeline.set_progress_bar_config(disable=True)
    model = latentjac.load(pipeline, size=16)
    conditioning = model.conditioning("a red cat", guidance_scale=3.0, image=(PHOTO, LEFT))
    point = latentjac.noise_point(model, num_inference_steps=STEPS, conditioning=conditioning)
    ours = latentjac.sample(model, point, output_type="latent")
    theirs = pipeline(
        image=[PHOTO, LEFT], prompt="a red cat", negative_prompt="", true_cfg_scale=3.0, height=16, width=16,
        num_inference_steps=STEPS, latents=flux.packed(point.sample), output_type="latent",
    ).images  # fmt: skip
    assert relative(flux.packed(ours), theirs) < 1e-5
    assert point.with_prompt(model, "a red cat", guidance_scale=3.0).conditioning == conditioning
    two = model.conditioning(["a red cat"] * 2, image=([PHOTO, LEFT], PHOTO))
    assert two["image"].shape == (2, 2, *model.sample_shape)
    torch.testing.assert_close(two["image"][1, 0], conditioning["image"][0, 1])
    single = latentjac.load(build_qwen_image_edit(), size=16)
    for other, given, message in (
        (single, (PHOTO, LEFT), "gets no tuple of several, got 2"),
        (model, (), "at least one picture, got an empty tuple"),
        (model, ([PHOTO] * 2, [PHOTO] * 3), "as many pictures a sample for each"),
    ):
        with pytest.raises(ValueError, match=f"conditioning: image must .*{message}"):
            other.conditioning("a", image=given)
