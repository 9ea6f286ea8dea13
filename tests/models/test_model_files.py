"""Files of models are not trusted: each fault of folders and weights is named, and no network is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import build_scheduler, build_tiny_unet
from pipelines import build_latent_diffusion
from safetensors.torch import load_file, save_file

import latentjac
from latentjac.models import configs

pytestmark = pytest.mark.usefixtures("no_network")

UNET = "unet/config.json"
SCHEDULER = "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_folders_touch_no_network(tiny_folder, text_folder, tmp_path) -> None:
    build_latent_diffusion().save_pretrained(tmp_path)
    for source in (tiny_folder, str(tiny_folder), text_folder, tmp_path, "faces"):
        for local in (False, True):
            assert latentjac.load(source, local_files_only=local).sample_shape


@pytest.mark.parametrize("file", [UNET, SCHEDULER, "model_index.json", WEIGHTS])
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link to a pipe", "device", "dangling link"])
def test_paths_that_are_no_files(folder, file: str, kind: str) -> None:
    path = folder / file
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(folder / "pipe")
        path.symlink_to(folder / "pipe")
    elif kind in ("device", "dangling link"):
        path.symlink_to("/dev/zero" if kind == "device" else "/nowhere")
    with pytest.raises(latentjac.LoadError, match=path.name):
        latentjac.load(folder)


def test_the_folder_of_a_network_alone(tiny_folder, folder) -> None:
    expected = latentjac.load(tiny_folder).identity()
    for source in (folder / "unet", str(folder / "unet")):
        assert latentjac.load(source, build_scheduler()).identity() == expected
    model = latentjac.load(folder / "unet", build_scheduler(), dtype=torch.float64, size=8)
    assert (model.dtype, model.sample_shape) == (torch.float64, (3, 8, 8))
    with pytest.raises(latentjac.LoadError, match=r"a network alone needs its scheduler: load\(folder, scheduler\)"):
        latentjac.load(folder / "unet")
    with pytest.raises(TypeError, match="scheduler must be None unless source is a network or its folder, got DDIM"):
        latentjac.load(folder, build_scheduler())
    split(folder, "fp16")
    assert latentjac.load(folder / "unet", build_scheduler(), variant="fp16").identity() == expected


@pytest.mark.parametrize("kind", ["AutoencoderKL", "../../UNet2DModel", None, ["UNet2DModel"]])
def test_folders_of_other_networks_alone(folder, kind: Any) -> None:
    config = json.loads((folder / UNET).read_text())
    (folder / UNET).write_text(json.dumps({**config, "_class_name": kind}))
    with pytest.raises(latentjac.LoadError, match=r"unet/config\.json': _class_name must be one of \[.*'UNet2DModel'"):
        latentjac.load(folder / "unet", build_scheduler())


def test_the_home_of_the_user(folder, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    for source in ("~/model", Path("~/model")):
        assert latentjac.load(source).sample_shape == (3, 16, 16)
    with pytest.raises(latentjac.LoadError, match="got '~nobody-of-this-name/model'"):
        latentjac.load("~nobody-of-this-name/model")


def test_linked_files_as_in_a_cache_of_the_hub(folder, tmp_path) -> None:
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        blob = tmp_path / f"blob-{file.name}-{file.parent.name}"
        file.rename(blob)
        file.symlink_to(blob)
    assert latentjac.load(folder).sample_shape == (3, 16, 16)


Damage = Callable[[dict[str, torch.Tensor]], Any]
WRONG: dict[str, tuple[Damage, str]] = {
    "missing": (lambda w: w.pop("conv_in.bias"), r"without conv_in\.bias \(1 such"),
    "unexpected": (lambda w: w.update(more=torch.ones(2)), r"with unexpected more \(1 such"),
    "shape": (
        lambda w: w.update({"conv_in.bias": torch.ones(9)}),
        r"conv_in\.bias must have the shape.*\[8\], got \[9\]",
    ),
    "int": (lambda w: w.update({"conv_in.bias": torch.ones(8).int()}), r"conv_in\.bias must be of a floating type"),
    "nan": (
        lambda w: w["conv_in.weight"].view(-1)[3].fill_(float("nan")),
        r"finite, got NaN or Inf in conv_in\.weight",
    ),
    "inf": (lambda w: w["conv_out.bias"].fill_(float("-inf")), r"finite, got NaN or Inf in conv_out\.bias"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_do_not_fit(folder, kind: str) -> None:
    damage, message = WRONG[kind]
    weights = load_file(folder / WEIGHTS)
    damage(weights)
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(latentjac.LoadError, match=message) as caught:
        latentjac.load(folder)
    assert WEIGHTS in str(caught.value)


def test_a_network_that_needs_more_memory_than_its_weights_is_not_made(folder, monkeypatch) -> None:
    """Within all limits, and yet terabytes."""
    config = json.loads((folder / UNET).read_text())
    most = configs.MOST_CHANNELS
    (folder / UNET).write_text(json.dumps({**config, "block_out_channels": [most] * 3, "layers_per_block": 20}))
    with pytest.raises(latentjac.LoadError, match=r"safetensors weights must fit .*config\.json"):
        latentjac.load(folder)


def test_weights_that_are_too_large_for_their_type(folder) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"].fill_(1e6)
    save_file(weights, folder / WEIGHTS)
    assert latentjac.load(folder).dtype == torch.float32
    with pytest.raises(latentjac.LoadError, match=r"got NaN or Inf in conv_in\.bias"):
        latentjac.load(folder, dtype=torch.float16)


def test_weights_of_objects_are_looked_at() -> None:
    network = build_tiny_unet()
    with torch.no_grad():
        network.conv_in.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(latentjac.LoadError, match=r"UNet2DModel: weights must be finite, .* conv_in\.weight"):
        latentjac.load(network, build_scheduler())


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:1000],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: bytes(len(content)),
    ],
)
def test_damaged_weights(folder, damage: Callable[[bytes], bytes]) -> None:
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    with pytest.raises(latentjac.LoadError, match="safetensors"):
        latentjac.load(folder)


def split(folder: Path, variant: str = "") -> dict[str, Any]:
    """Weights in two files with an index."""
    weights = load_file(folder / WEIGHTS)
    names = sorted(weights)
    halves = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, folder / "unet" / file)
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    ending = f".{variant}" if variant else ""
    (folder / "unet" / f"diffusion_pytorch_model.safetensors.index{ending}.json").write_text(json.dumps(index))
    return index


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_weights_in_several_files(folder, tiny_folder, variant: str) -> None:
    split(folder, variant)
    assert latentjac.load(folder, variant=variant or None).identity() == latentjac.load(tiny_folder).identity()


@pytest.mark.parametrize(
    "names", [["../a.safetensors"], ["/etc/passwd"], ["https://example.org/a.safetensors"], [""], "a", {}, [3], None]
)
def test_indices_that_point_elsewhere(folder, names: Any) -> None:
    index = split(folder)
    index["weight_map"] = {str(i): name for i, name in enumerate(names)} if isinstance(names, list) else names
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(latentjac.LoadError, match="weight_map must"):
        latentjac.load(folder)


@pytest.mark.parametrize("change", ["elsewhere", "more", "fewer", "twice"])
def test_indices_that_do_not_fit_their_files(folder, change: str) -> None:
    """Each weight is once in the file that the index says, and nothing else is there."""
    index = split(folder)
    listed, name = index["weight_map"], "conv_in.bias"
    if change == "elsewhere":
        listed[name] = "b.safetensors" if listed[name] == "a.safetensors" else "a.safetensors"
    elif change == "more":
        listed["more"] = listed[name]
    elif change == "fewer":
        del listed[name]
    else:
        for file in ("a", "b"):
            weights = load_file(folder / f"unet/{file}.safetensors")
            save_file({**weights, name: torch.ones(8)}, folder / f"unet/{file}.safetensors")
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(latentjac.LoadError, match=r"[ab]\.safetensors' must hold the weights that its index lists"):
        latentjac.load(folder)


@pytest.mark.parametrize(
    ("held", "variant", "hint"),
    [
        ("diffusion_pytorch_model.fp16.safetensors", None, "there are weights of fp16: give variant='fp16'"),
        ("diffusion_pytorch_model.safetensors.index.bf16.json", None, "give variant='bf16'"),
        ("diffusion_pytorch_model.non_ema.safetensors", "fp16", "weights of non_ema: give variant='non_ema'"),
        ("diffusion_pytorch_model.safetensors", "fp16", "there are weights without a variant: leave it out"),
        ("diffusion_pytorch_model.bin", None, r"pickled weights \(.bin\) are never read: .* save_pretrained"),
        ("diffusion_pytorch_model.bin.index.json", None, "pickled weights"),
        ("other.safetensors", None, r"got no '.*diffusion_pytorch_model\.safetensors'$"),
    ],
)
def test_other_weights_than_those_that_are_looked_for(folder, held: str, variant: Any, hint: str) -> None:
    (folder / WEIGHTS).rename(folder / "unet" / held)
    with pytest.raises(latentjac.LoadError, match=hint):
        latentjac.load(folder, variant=variant)


def test_a_variant(folder, tiny_folder) -> None:
    (folder / WEIGHTS).rename(folder / WEIGHTS.replace(".safetensors", ".fp16.safetensors"))
    assert latentjac.load(folder, variant="fp16").identity() == latentjac.load(tiny_folder).identity()
    with pytest.raises(latentjac.LoadError, match=r"got no .*diffusion_pytorch_model\.safetensors"):
        latentjac.load(folder)


# --- text and autoencoders ------------------------------------------------------------------------------------------


def test_names_of_old_versions(text_folder, tmp_path) -> None:
    """As files of Stable Diffusion 1 have them."""
    folder = shutil.copytree(text_folder, tmp_path / "model")
    vae, text = folder / "vae/diffusion_pytorch_model.safetensors", folder / "text_encoder/model.safetensors"
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(vae)
    for name in [name for name in weights if ".attentions.0.to_" in name]:
        old = next(name.replace(a, b) for a, b in new.items() if f".{a}." in name)
        weights[old] = weights.pop(name)
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, vae)
    weights = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(text).items()}
    weights["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(weights, text)
    found, expected = latentjac.load(folder), latentjac.load(text_folder)
    assert found.conditioning("a cat") == expected.conditioning("a cat")
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.codec.decode(x), expected.codec.decode(x), rtol=0, atol=0)


TEXT: list[tuple[str, Any, str]] = [
    ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers must be .*MOST_LAYERS"),
    ("text_encoder/config.json", {"hidden_size": 10**9}, "hidden_size must be .*MOST_CHANNELS"),
    ("text_encoder/config.json", {"vocab_size": -1}, "vocab_size must be .*MOST_TOKENS"),
    ("text_encoder/config.json", {"max_position_embeddings": 24}, "must fit .*text_encoder/config.json|shape"),
    ("text_encoder/config.json", {"num_attention_heads": 3}, "must be the configuration of a network"),
    ("text_encoder/config.json", {"hidden_act": "odd"}, "must be the configuration of a network"),
    ("vae/config.json", {"scaling_factor": 0}, "scaling_factor must be a positive number"),
    ("vae/config.json", {"latent_channels": 10**9}, "latent_channels must be .*MOST_CHANNELS"),
    ("vae/config.json", {"block_out_channels": [4, 8]}, "safetensors"),
    ("vae/config.json", {"norm_num_groups": 3}, "must be the configuration of a network"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": 10**9}, r"model_max_length must be an int in \[2, 12\]"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": "12"}, "model_max_length must be"),
    ("tokenizer/tokenizer.json", None, "must hold a JSON object"),
]


@pytest.mark.parametrize(("file", "change", "message"), TEXT)
def test_parts_around_the_network(text_folder, tmp_path, file: str, change: Any, message: str) -> None:
    folder = shutil.copytree(text_folder, tmp_path / "model")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(change and {**config, **change}))
    with pytest.raises(latentjac.LoadError, match=message) as caught:
        latentjac.load(folder)
    assert file.split("/")[0] in str(caught.value)


def test_other_files_beside_a_text_encoder_are_not_asked(text_folder, tmp_path) -> None:
    folder = shutil.copytree(text_folder, tmp_path / "model")
    adapter = {"base_model_name_or_path": "someone/model", "peft_type": "LORA"}
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    config = json.loads((folder / "text_encoder/config.json").read_text())
    config |= {"_name_or_path": "someone/model", "auto_map": {"AutoModel": "a--b.C"}, "quantization_config": {}}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    config = json.loads((folder / "tokenizer/tokenizer_config.json").read_text())
    config |= {"name_or_path": "someone/model", "auto_map": {"AutoTokenizer": ["a--b.C", None]}}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    assert latentjac.load(folder).identity() == latentjac.load(text_folder).identity()


def test_a_tokenizer_that_would_be_waited_for(text_folder, tmp_path) -> None:
    folder = shutil.copytree(text_folder, tmp_path / "model")
    os.mkfifo(folder / "tokenizer" / "merges.txt")
    with pytest.raises(latentjac.LoadError, match=r"merges\.txt"):
        latentjac.load(folder)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(latentjac.LoadError, match=r"tokenizer\.json, or vocab\.json"):
        latentjac.load(folder)
