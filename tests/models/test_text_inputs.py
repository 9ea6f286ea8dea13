"""What changes the inputs of U-Nets with text, and what they would get that is not given to them: it is refused."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from networks import build_scheduler, build_text_unet, point_at, rand, randomize
from pipelines import SHALLOW, build_controlled, build_sdxl, build_stable_diffusion
from truth import dense_jacobian

import latentjac
from latentjac.models import ClassifierFree

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
BUILDERS = {"sd": build_stable_diffusion, "xl": build_sdxl}


@pytest.fixture(params=BUILDERS)
def pipeline(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = BUILDERS[request.param](tmp_path)
    randomize(made.unet).float()
    return made


def encoded(pipeline: Any, prompts: list[str], **options: object) -> torch.Tensor:
    """Embeddings by diffusers' own pipeline."""
    return pipeline.encode_prompt(
        prompts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False, **options
    )[0]


def test_layers_that_are_skipped(tmp_path: Path) -> None:
    pipeline = build_stable_diffusion(tmp_path)
    model, encoder = latentjac.load(pipeline), pipeline.text_encoder
    ids = pipeline.tokenizer(["a cat"], padding="max_length", return_tensors="pt").input_ids
    hidden = encoder(ids, output_hidden_states=True).hidden_states
    found = model.conditioning("a cat", "a", 2.0, clip_skip=1)
    torch.testing.assert_close(found["text"], encoder.final_layer_norm(hidden[-2]))
    assert found.guidance.negative == model.conditioning("a")  # the last layer, as in diffusers
    assert model.conditioning("a cat", clip_skip=0) == model.conditioning("a cat")
    with pytest.raises(ValueError, match=r"clip_skip must be .*\[0, 1\], got 2|clip_skip must be .* 1, got 2"):
        model.conditioning("a cat", clip_skip=2)
    with pytest.raises(TypeError, match="clip_skip must be an int, got str"):
        model.conditioning("a cat", clip_skip="1")


def test_layers_that_are_skipped_of_two_encoders(tmp_path: Path) -> None:
    pipeline = build_sdxl(tmp_path)
    model = latentjac.load(pipeline)
    for skipped in (0, 1):
        found = model.conditioning(["a cat"], clip_skip=skipped)
        torch.testing.assert_close(found["text"], encoded(pipeline, ["a cat"], clip_skip=skipped))
    assert not torch.equal(found["text"], model.conditioning(["a cat"])["text"])
    copied = pickle.loads(pickle.dumps(latentjac.load(build_sdxl(tmp_path))))
    assert copied.conditioning("a cat") == pickle.loads(pickle.dumps(copied)).conditioning("a cat")


def test_no_text_is_zeros_where_these_were_trained(tmp_path: Path) -> None:
    pipeline = build_sdxl(tmp_path)
    zeros, empty = latentjac.load(pipeline).conditioning(), latentjac.load(pipeline).conditioning("")
    assert not zeros["text"].any()
    assert not zeros["pooled"].any()
    assert torch.equal(empty["text"], encoded(pipeline, [""]))
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    assert latentjac.load(pipeline).conditioning() == empty


def test_embeddings_of_several_vectors(pipeline, tmp_path: Path) -> None:
    """Textual inversion: one name in a prompt stands for all of its vectors."""
    for ending in ("", "_2"):
        if hasattr(pipeline, "text_encoder" + ending):
            parts = {name: getattr(pipeline, name + ending) for name in ("text_encoder", "tokenizer")}
            pipeline.load_textual_inversion({"<cat>": rand(3, 16).float()}, **parts)
    model, prompts = latentjac.load(pipeline), ["a <cat> b", "z"]
    torch.testing.assert_close(model.conditioning(prompts)["text"], encoded(pipeline, prompts), rtol=0, atol=0)
    one = encoded(pipeline, ["a <cat> b"])
    assert not torch.equal(one, encoded(pipeline, ["a <cat>_2 b"]))
    pipeline.save_pretrained(tmp_path / "saved")
    assert latentjac.load(tmp_path / "saved").conditioning(prompts) == model.conditioning(prompts)


def mid(model: latentjac.Model, point: latentjac.Point) -> torch.Tensor:
    """Largest singular values of the dense Jacobian of h-space, at what the network is now."""
    found: list[torch.Tensor] = []
    module = model.network.get_submodule(model.resolve_layer("mid"))
    handle = module.register_forward_hook(lambda module, inputs, output: found.append(output))

    def features(x: torch.Tensor) -> torch.Tensor:
        found.clear()
        model.call(model.network, x, torch.tensor(point.timestep), point.conditioning)
        return found[0]

    dense = dense_jacobian(features, point.sample)
    handle.remove()
    return torch.linalg.svdvals(dense)[:2]


def followed(pipeline: Any, *names: str) -> dict[str, torch.Tensor]:
    """Singular values after changes of an adapter of low rank, one after the other; they are those of the network."""
    peft = pytest.importorskip("peft")
    model = latentjac.load(pipeline, dtype=torch.float64)
    model.scheduler = build_scheduler()
    point = point_at(rand(1, 4, 8, 8), conditioning=model.conditioning("a cat"))
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
    changes: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "on": lambda: (torch.manual_seed(1), pipeline.unet.add_adapter(config), model.to(dtype=torch.float64)),
        "weak": lambda: pipeline.set_adapters("default", 0.3),
        "off": pipeline.disable_lora,
        "fused": lambda: (pipeline.enable_lora(), pipeline.fuse_lora(), pipeline.unload_lora_weights()),
    }
    identities, values = {}, {}
    for name in names:
        changes[name]()
        pipeline.unet.eval().requires_grad_(False)
        identities[name], values[name] = model.identity(), latentjac.local_basis(model, point, 2, tol=1e-7).s
        torch.testing.assert_close(values[name], mid(model, point), rtol=1e-6, atol=0)
    assert len(set(identities.values())) == len(identities)
    return values


def test_adapters_of_low_rank(tmp_path: Path) -> None:
    """On, at another strength, off and fused: bases follow, and models are told apart."""
    pipeline = build_stable_diffusion(tmp_path, **SHALLOW)
    randomize(pipeline.unet).float()
    values = followed(pipeline, "none", "on", "weak", "off", "fused")
    torch.testing.assert_close(values["off"], values["none"])
    torch.testing.assert_close(values["fused"], values["weak"])
    assert not torch.allclose(values["on"], values["weak"], rtol=1e-3)
    assert not torch.allclose(values["weak"], values["none"], rtol=1e-3)


def test_adapters_of_low_rank_of_the_other_family(tmp_path: Path) -> None:
    pipeline = build_sdxl(tmp_path, **SHALLOW)
    randomize(pipeline.unet).float()
    values = followed(pipeline, "on", "fused")
    torch.testing.assert_close(values["fused"], values["on"])


@pytest.mark.parametrize("file", ["pytorch_lora_weights.safetensors", "text_encoder/adapter_model.safetensors"])
def test_adapters_in_a_folder_are_not_passed_over(tmp_path: Path, file: str) -> None:
    build_stable_diffusion(tmp_path).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / file).write_bytes(b"")
    with pytest.raises(latentjac.LoadError, match=rf"folder must hold no weights of adapters \(LoRA\), got '.*{file}'"):
        latentjac.load(tmp_path / "saved")


def test_ready_embeddings(pipeline) -> None:
    """A conditioning by hand is as good as one of prompts."""
    model = latentjac.load(pipeline, dtype=torch.float64)
    own, away = model.conditioning("a cat"), model.conditioning("a dog")
    mixed = latentjac.Conditioning({name: (own[name] + away[name]) / 2 for name in own}, ClassifierFree(away, 2.0))
    x, t = rand(1, 4, 8, 8), torch.tensor(300)
    towards, negative = (
        model.call(model.network, x, t, latentjac.Conditioning(dict(c))) for c in (mixed, mixed.guidance.negative)
    )
    torch.testing.assert_close(model.eps(x, t, mixed), negative + 2 * (towards - negative))
    path = latentjac.invert(model, PICTURE, 6, conditioning=mixed)
    assert path.at(0.5).conditioning == mixed
    assert latentjac.local_basis(model, path.at(0.5), 2, tol=1e-3).status is latentjac.Status.CONVERGED
    with pytest.raises(ValueError, match=r"conditioning must hold \['text'.*\] for a UNet2DConditionModel, got \[\]"):
        model.eps(x, t)


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"num_class_embeds": 5}, "num_class_embeds must be None, got 5, so it gets a class or a level of noise as well"),
    (
        {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8},
        "class_embed_type must be None, got 'projection'",
    ),
    (
        {"addition_embed_type": "image", "encoder_hid_dim": 8},
        "addition_embed_type must be None or 'text' or 'text_time', got 'image'",
    ),
    (
        {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 8},
        "encoder_hid_dim_type must be None or 'text_proj', got 'image_proj'",
    ),
    ({"in_channels": 7}, r"in_channels must be 4, as out_channels, or 8 or 9 \(with pictures\), got 7"),
    ({"in_channels": 9}, "in_channels must be 4 unless the pipeline is a .*InpaintPipeline.*, got 9 in a StableDiff"),
    ({"in_channels": 8}, "in_channels must be 4 unless the pipeline is a .*Pix2Pix.*, got 8 in a StableDiffusionPipe"),
    ({"time_cond_proj_dim": 2}, "time_cond_proj_dim must be 4 or more, got 2"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=[next(iter(config)) for config, _ in CONFIGS])
def test_inputs_that_are_not_given_are_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    pipeline = build_stable_diffusion(tmp_path, **config)
    pipeline.save_pretrained(tmp_path / "saved")
    for source in (pipeline, tmp_path / "saved"):
        with pytest.raises(
            latentjac.LoadError, match=rf"config of UNet2DConditionModel: {message}.*latentjac\.Model\("
        ):
            latentjac.load(source)


def test_parts_that_are_not_used_are_named(tmp_path: Path) -> None:
    one = build_controlled(tmp_path, diffusers.StableDiffusionControlNetPipeline)
    one.controlnet.register_to_config(global_pool_conditions=True)
    with pytest.raises(latentjac.LoadError, match="global_pool_conditions must be False, got True"):
        latentjac.load(one)


def test_guidance_of_a_pipeline_that_is_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = build_stable_diffusion(tmp_path, diffusers.StableDiffusionPAGPipeline)
    pipeline.save_pretrained(tmp_path / "saved")
    latentjac.load(build_stable_diffusion(tmp_path))
    assert not caplog.records
    for source in (pipeline, tmp_path / "saved"):
        latentjac.load(source)
        assert "StableDiffusionPAGPipeline: it guides by perturbed attention; that is left out" in caplog.text
        caplog.clear()


def test_no_guidance_as_diffusers_writes_it_is_told(tmp_path: Path) -> None:
    model = latentjac.load(build_stable_diffusion(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.conditioning("a", guidance_scale=0.5).guidance is not None
    with pytest.warns(UserWarning, match="guidance_scale=0 is the prediction under the negative prompt"):
        assert model.conditioning("a", guidance_scale=0.0).guidance is not None


def test_sizes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    pipeline = build_sdxl(tmp_path, projection_class_embeddings_input_dim=48)
    with pytest.raises(
        latentjac.LoadError, match="projection_class_embeddings_input_dim must be the width 16 of a text"
    ):
        latentjac.load(pipeline)


def test_pictures_that_are_missing_or_not_taken_are_named(tmp_path: Path) -> None:
    inpainting = latentjac.load(
        build_stable_diffusion(tmp_path, diffusers.StableDiffusionInpaintPipeline, in_channels=9)
    )
    plain = latentjac.load(build_stable_diffusion(tmp_path))
    mask = torch.zeros(16, 16)
    for given, name in (({}, "image"), ({"image": PICTURE}, "mask"), ({"mask": mask}, "image")):
        with pytest.raises(ValueError, match=rf"conditioning: {name} must be given since .* gets mask and image"):
            inpainting.conditioning("a", **given)
    with pytest.raises(ValueError, match="invert: image must be given since"):
        latentjac.invert(inpainting, PICTURE, 4, prompt="a")
    with pytest.raises(ValueError, match=r"mask must be left at None since the network of .* gets none"):
        plain.conditioning("a", mask=mask)
    with pytest.raises(
        ValueError, match=r"conditioning: mask must have the shape \[16, 16\] of the picture, got \[8, 8\]"
    ):
        inpainting.conditioning("a", image=PICTURE, mask=mask[:8, :8])


def test_a_mask_is_a_picture_or_a_tensor(tmp_path: Path) -> None:
    from PIL import Image

    model = latentjac.load(build_stable_diffusion(tmp_path, diffusers.StableDiffusionInpaintPipeline, in_channels=9))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 2:10] = True
    picture = Image.fromarray(255 * inside.numpy().astype("uint8"))
    picture.save(tmp_path / "mask.png")
    found = [
        model.conditioning("a", image=PICTURE, mask=m) for m in (inside, inside.float(), picture, tmp_path / "mask.png")
    ]
    assert all(c == found[0] for c in found)
    assert torch.equal(found[0]["mask"][0, 0] > 0, inside[::2, ::2])
    changed = PICTURE.clone()
    changed[..., inside] = 0.0
    assert model.conditioning("a", image=changed, mask=inside) == found[0]  # what is hidden is not seen


def test_guidance_as_an_input_is_not_guidance_from_outside(tmp_path: Path) -> None:
    pipeline = build_stable_diffusion(tmp_path, time_cond_proj_dim=16)
    randomize(pipeline.unet).float()
    model = latentjac.load(pipeline)
    one, five = (model.conditioning("a cat", guidance_scale=scale) for scale in (1.0, 5.0))
    assert one.guidance is five.guidance is None
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor(300)
    assert (model.eps(x, t, one) - model.eps(x, t, five)).abs().max() > 1e-3
    with pytest.raises(
        ValueError, match=r"negative_prompt must be left at '' since the network .* as an input, got 'b'"
    ):
        model.conditioning("a", "b", 5.0)


def test_a_network_by_hand_is_asked_for_all_of_its_inputs() -> None:
    network = build_text_unet(in_channels=4, out_channels=4, time_cond_proj_dim=8)
    model = latentjac.Model(network, build_scheduler())
    text = latentjac.Conditioning({"text": torch.zeros(1, 3, 6)})
    with pytest.raises(ValueError, match=r"conditioning must hold \['text', 'guidance_embedding'\].*, got \['text'\]"):
        model.eps(torch.zeros(1, 4, 8, 8), torch.tensor(3), text)


def test_settings_of_a_folder_are_read(tmp_path: Path) -> None:
    build_sdxl(tmp_path).save_pretrained(tmp_path / "saved")
    index = tmp_path / "saved" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "force_zeros_for_empty_prompt": False}))
    assert latentjac.load(tmp_path / "saved").conditioning()["text"].any()
