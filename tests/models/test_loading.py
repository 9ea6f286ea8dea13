"""Every kind of source, and what is refused."""

from __future__ import annotations

import json
import shutil
from types import MappingProxyType

import pytest
import torch
from diffusers import DDIMPipeline, DDPMPipeline, DDPMScheduler
from networks import build_scheduler, build_tiny_unet
from pipelines import build_text_encoder
from transformers import CLIPTextModel

import latentjac
from latentjac.models.identity import network_identity


def test_folder(tiny_folder) -> None:
    model = latentjac.load(tiny_folder)
    assert model.sample_shape == (3, 16, 16)
    assert model.dtype == torch.float32
    assert not any(p.requires_grad for p in model.network.parameters())
    expected = build_tiny_unet().state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in model.network.state_dict().items())


def test_pipeline_and_network_objects() -> None:
    unet = build_tiny_unet()
    for source in (
        latentjac.load(DDIMPipeline(unet=unet, scheduler=build_scheduler())),
        latentjac.load(DDPMPipeline(unet=unet, scheduler=DDPMScheduler())),
        latentjac.load(unet, build_scheduler()),
    ):
        assert source.network is unet
        assert len(latentjac.sample(source, num_inference_steps=2)) == 1


def test_dtype(tiny_folder) -> None:
    assert latentjac.load(tiny_folder, dtype=torch.float64).dtype == torch.float64


def test_builtin_faces() -> None:
    assert "faces" in latentjac.builtin_models()
    model = latentjac.load("faces")
    assert model.sample_shape == (3, 64, 64)
    assert model.dtype == torch.float32
    levels = len(model.network.config["block_out_channels"])
    assert levels >= 3


def test_hub_id_without_a_network(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(latentjac.LoadError, match=r"'someone/some-model' is not in the local cache"):
        latentjac.load("someone/some-model", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        (None, {"config.json", "w.safetensors", "w-00001-of-00002.safetensors"}),
        ("fp16", {"config.json", "w.fp16.safetensors", "w.fp16-00001-of-00002.safetensors"}),
    ],
)
def test_files_that_are_fetched(variant, wanted, monkeypatch, tmp_path) -> None:
    """Those of one variant, whole or in several files, and no pickled ones."""
    from huggingface_hub.utils import filter_repo_objects

    asked: dict = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **given: asked.update(given) or tmp_path)
    with pytest.raises(latentjac.LoadError, match=r"without model_index\.json"):
        latentjac.load("someone/some-model", variant=variant)
    weights = ["w", "w-00001-of-00002", "w.fp16", "w.fp16-00001-of-00002", "w.bf16", "w.non_ema"]
    files = [f"unet/{name}.{kind}" for name in weights for kind in ("safetensors", "bin")]
    patterns = {key: asked[key] for key in ("allow_patterns", "ignore_patterns")}
    found = set(filter_repo_objects(["unet/config.json", "model.safetensors", *files], **patterns))
    assert found == {f"unet/{name}" for name in wanted}
    others = {
        "text_encoder_3/model-00001-of-00002.safetensors", "text_encoder_2/model.safetensors.index.json",
        "tokenizer_3/spiece.model", "tokenizer_2/merges.txt", "tokenizer/tokenizer.json", "vae/config.json",
        "transformer/config.json", "controlnet/config.json", "scheduler/scheduler_config.json", "model_index.json",
    }  # fmt: skip
    unneeded = {"README.md", "safety_checker/model.safetensors", "text_encoder/pytorch_model.bin", "flux.safetensors"}
    held = set(filter_repo_objects(sorted(others | unneeded), **patterns))
    assert held == {name for name in others if not (variant and "-of-" in name)}


def test_pickled_weights_are_never_read(tiny_folder, tmp_path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple:
            return (canary.touch, ())

    torch.save({"weight": Attack()}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(latentjac.LoadError, match="safetensors"):
        latentjac.load(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), "must be JSON"),
        (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json"),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 64), "safetensors"),
        (lambda f: shutil.rmtree(f / "unet"), "safetensors"),
    ],
)
def test_damaged_folders(tiny_folder, tmp_path, damage, message: str) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(folder)


def test_text_to_image_pipelines_are_named(tiny_folder, tmp_path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "text")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(latentjac.LoadError, match="UNet2DConditionModel"):
        latentjac.load(folder)


def test_identity_tells_weights_apart() -> None:
    first, second = (latentjac.load(build_tiny_unet(seed), build_scheduler()) for seed in (0, 1))
    assert first.identity() != second.identity()
    assert first.identity() == latentjac.load(build_tiny_unet(0), build_scheduler()).identity()


def test_weights_that_are_missing_are_named(tiny_folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "partial")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file)
    with pytest.raises(latentjac.LoadError, match=r"conv_in\.weight"):
        latentjac.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model_index.json", "[]", "must hold a JSON object, got list"),
        ("model_index.json", '{"unet": ["x"]}', "no network"),
        ("model_index.json", '{"unet": ["diffusers", "UNet2DModel"], "vqvae": ["diffusers", "VQModel"]}', "vqvae"),
        (
            "model_index.json",
            '{"unet": ["diffusers", "UNet2DModel"], "vae": ["diffusers", "ConsistencyDecoderVAE"]}',
            r"got .*'ConsistencyDecoderVAE'} \(its decoder draws noise",
        ),
        ("scheduler/scheduler_config.json", '{"_class_name": "ScoreSdeVeScheduler"}', "must be DDIMSch"),
        ("scheduler/scheduler_config.json", '{"beta_schedule": "odd"}', "odd"),
    ],
)
def test_folders_of_other_kinds(tiny_folder, tmp_path, file: str, content: str, message: str) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "other")
    (folder / file).write_text(content)
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(folder)


def test_no_signal_at_the_end_of_the_schedule() -> None:
    with pytest.raises(latentjac.LoadError, match="zero terminal SNR"):
        latentjac.load(build_tiny_unet(), build_scheduler(rescale_betas_zero_snr=True))


def test_networks_that_need_more_are_refused() -> None:
    from diffusers import UNet2DModel

    config = {k: v for k, v in build_tiny_unet().config.items() if not k.startswith("_")}
    changes = (({"class_embed_type": "identity"}, "labels .*'identity'"), ({"out_channels": 1}, "prediction"))
    for change, message in changes:
        with pytest.raises(latentjac.LoadError, match=f"load: network must .*{message}"):
            latentjac.load(UNet2DModel.from_config({**config, **change}), build_scheduler())


def test_a_network_without_a_family_is_called_with_a_sample_and_a_timestep_alone() -> None:
    class Other(torch.nn.Conv2d):
        config = MappingProxyType({"sample_size": 8, "in_channels": 3})

        def forward(self, x, t, label):
            return super().forward(x)

    with pytest.raises(latentjac.LoadError, match=r"callable with a sample .* and a timestep alone, got Other"):
        latentjac.load(Other(3, 3, 1), build_scheduler())


def test_identity_of_a_text_encoder_does_not_depend_on_the_folder(tmp_path) -> None:
    build_text_encoder(20).save_pretrained(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (CLIPTextModel.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert one.name_or_path != two.name_or_path
    assert network_identity(one) == network_identity(two)
    two.config.eos_token_id = 7
    assert network_identity(one) != network_identity(two)
    torch.nn.init.normal_(one.get_input_embeddings().weight)
    assert network_identity(one) != network_identity(build_text_encoder(20))


def test_identity_of_a_network_whose_configuration_is_no_mapping() -> None:
    network = torch.nn.Linear(2, 2)
    network.config = object()
    assert len(network_identity(network)) == 16


def test_identity_does_not_depend_on_the_folder(tiny_folder, tmp_path) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    assert latentjac.load(copy).identity() == latentjac.load(tiny_folder).identity()
    # diffusers writes into the configuration of what it reads where that lay.
    pipeline = DDIMPipeline.from_pretrained(copy)
    assert pipeline.unet.config["_name_or_path"] == str(copy / "unet")
    assert latentjac.load(pipeline).identity() == latentjac.load(tiny_folder).identity()
