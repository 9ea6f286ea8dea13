"""Configurations of models are not trusted: a fault is named before any weight is read, without asking a network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from networks import build_scheduler, build_tiny_unet

import latentjac

pytestmark = pytest.mark.usefixtures("no_network")

UNET = "unet/config.json"
SCHEDULER = "scheduler/scheduler_config.json"

CONFIGS: list[tuple[str, str, Any, str]] = [
    (UNET, "sample_size", -64, r"an int in \[1, 2048\] \(LARGEST_SIDE\), or a list of two, got -64"),
    (UNET, "sample_size", 0, "an int in"),
    (UNET, "sample_size", [64], "a list of two, got"),
    (UNET, "sample_size", [64, "64"], "a list of two"),
    (UNET, "sample_size", 10**9, "LARGEST_SIDE"),
    (UNET, "sample_size", 16.0, "an int in"),
    (UNET, "sample_size", "64", "an int in"),
    (UNET, "sample_size", True, "an int in"),
    (UNET, "sample_size", {"a": [1]}, "an int in"),
    (UNET, "in_channels", 10**9, "MOST_CHANNELS"),
    (UNET, "in_channels", "3", "an int in"),
    (UNET, "out_channels", -3, "an int in"),
    (UNET, "block_out_channels", [8, 10**9, 16], "MOST_CHANNELS"),
    (UNET, "block_out_channels", [8] * 1000, "MOST_BLOCKS"),
    (UNET, "block_out_channels", [], "a list of 1 to 16"),
    (UNET, "block_out_channels", "8", "a list of 1 to 16"),
    (UNET, "down_block_types", [1, 2, 3], "each a text"),
    (UNET, "up_block_types", "UpBlock2D", "a list of"),
    (UNET, "layers_per_block", 10**6, "MOST_LAYERS"),
    (UNET, "layers_per_block", [[1]], "MOST_LAYERS"),
    (UNET, "norm_num_groups", 0, "an int in"),
    (UNET, "norm_eps", "small", "a positive number"),
    (UNET, "attention_head_dim", -8, "an int in"),
    (UNET, "time_embedding_dim", 10**12, "a value of usual size"),
    (UNET, "act_fn", "silu" * 1000, "a value of usual size"),
    (UNET, "class_embed_type", [[0] * 2000], "a value of usual size"),
    (UNET, "_class_name", "UNet2DConditionModel", "_class_name must be UNet2DModel, got 'UNet2DConditionModel'"),
    (SCHEDULER, "num_train_timesteps", 0, r"an int in \[1, 100000\] \(MOST_TIMESTEPS\), got 0"),
    (SCHEDULER, "num_train_timesteps", -5, "MOST_TIMESTEPS"),
    (SCHEDULER, "num_train_timesteps", 10**12, "MOST_TIMESTEPS"),
    (SCHEDULER, "num_train_timesteps", "1000", "MOST_TIMESTEPS"),
    (SCHEDULER, "trained_betas", [0.1, 0.2], r"1000 numbers \(num_train_timesteps\), got 2"),
    (SCHEDULER, "trained_betas", ["0.1"] * 1000, "each a number in"),
    (SCHEDULER, "trained_betas", "linear", "a list of"),
    (SCHEDULER, "trained_betas", [-0.5] * 1000, "each a number in"),
    (SCHEDULER, "beta_start", float("nan"), "finite numbers, got nan at beta_start"),
    (SCHEDULER, "beta_end", float("inf"), "finite numbers, got inf at beta_end"),
    (SCHEDULER, "beta_start", -1, r"a number in \[0, 1\]"),
    (SCHEDULER, "beta_end", "0.02", r"a number in \[0, 1\]"),
    (SCHEDULER, "beta_schedule", "odd", "beta_schedule and the like must be of DDIMScheduler, got: odd"),
    (SCHEDULER, "beta_schedule", {"a": 1}, "a text"),
    (SCHEDULER, "prediction_type", "score", r"one of \['epsilon', .*'trigflow'\], got 'score'"),
    (SCHEDULER, "prediction_type", ["epsilon"], "one of"),
    (SCHEDULER, "timestep_spacing", "random", "one of"),
    (SCHEDULER, "steps_offset", -1, "an int from 0"),
    (SCHEDULER, "clip_sample", "no", "true or false"),
]


@pytest.mark.parametrize(
    ("file", "key", "value", "message"), CONFIGS, ids=[f"{r[1]} {str(r[2])[:20]}" for r in CONFIGS]
)
def test_values_that_cannot_be(folder, monkeypatch, file: str, key: str, value: Any, message: str) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, key: value}))
    expensive: list[str] = []
    monkeypatch.setattr("latentjac.models.weights.read_tensors", lambda *args: expensive.append("weights"))
    start = time.monotonic()
    with pytest.raises(latentjac.LoadError, match=message) as caught:
        latentjac.load(folder)
    assert file in str(caught.value)
    assert key in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not expensive
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(("key", "value"), [(row[1], row[2]) for row in CONFIGS if row[0] == UNET][:14])
def test_values_of_objects_that_cannot_be(key: str, value: Any) -> None:
    network = build_tiny_unet()
    network.register_to_config(**{key: value})
    with pytest.raises(latentjac.LoadError, match=key):
        latentjac.load(network, build_scheduler())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train_timesteps": 0}, "num_train_timesteps"),
        ({"num_train_timesteps": 999}, "999 finite alphas_cumprod"),
        ({"trained_betas": [0.1] * 3}, "trained_betas must be 1000 numbers"),
        ({"trained_betas": np.full(1000, np.nan)}, "trained_betas"),
        ({"beta_start": float("nan")}, "beta_start"),
        ({"prediction_type": "score"}, "prediction_type"),
    ],
)
def test_schedulers_that_cannot_be(changes: dict, message: str) -> None:
    scheduler = build_scheduler()
    scheduler.register_to_config(**changes)
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(build_tiny_unet(), scheduler)


def test_a_scheduler_with_an_array_of_betas() -> None:
    scheduler = diffusers.DDPMScheduler(trained_betas=np.linspace(1e-4, 0.02, 1000))
    assert latentjac.load(build_tiny_unet(), scheduler).num_train_timesteps == 1000


def test_networks_that_leave_choices_to_their_class() -> None:
    network = build_tiny_unet()
    network.register_to_config(attention_head_dim=None, norm_num_groups=None, out_channels=None)
    assert latentjac.load(network, build_scheduler()).sample_shape == (3, 16, 16)


@pytest.mark.parametrize("file", [UNET, SCHEDULER, "model_index.json"])
@pytest.mark.parametrize(
    "content",
    [
        b'"google/ddpm-cifar10-32"',
        b'"https://example.org/config.json"',
        b"[]",
        b"null",
        b"",
        b"\xff\xfe",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"sample_size": 16, "sample_size": 64}',
        b'{"a": 1e999}',
        b"{}",
    ],
    ids=["hub id", "address", "list", "null", "empty", "no UTF-8", "nested", "twice", "large", "nothing"],
)
def test_files_that_hold_something_else(folder, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    for local in (False, True):
        with pytest.raises(latentjac.LoadError, match="load:") as caught:
            latentjac.load(folder, local_files_only=local)
        assert len(str(caught.value)) < 1000


PLACES = {
    "_name_or_path": "https://example.org/model",
    "_commit_hash": "../../..",
    "auto_map": {"AutoModel": "someone/code--model.Model"},
    "quantization_config": {"quant_method": "bitsandbytes"},
    "pretrained_model_name_or_path": "someone/model",
    "encoder_hid_dim_type_path": "http://example.org",
}


@pytest.mark.parametrize("key", PLACES)
def test_places_in_a_configuration_are_not_visited(folder, key: str) -> None:
    config = json.loads((folder / UNET).read_text())
    (folder / UNET).write_text(json.dumps({**config, key: PLACES[key]}))
    assert latentjac.load(folder).sample_shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["evil_module", "UNet2DModel"], "unet must be of diffusers, got 'evil_module'"),
        (["diffusers", "../../UNet2DModel"], "pipeline must have a UNet2DModel"),
        (["diffusers", ["UNet2DModel"]], "pipeline must have a UNet2DModel"),
        (["diffusers", {"a": 1}], "pipeline must have a UNet2DModel"),
        ([None, "UNet2DModel"], "unet must be of diffusers, got 'None'"),
        ("diffusers.UNet2DModel", "pipeline must have a UNet2DModel"),
    ],
)
def test_classes_from_elsewhere(folder, entry: Any, message: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": entry}))
    with pytest.raises(latentjac.LoadError, match=message):
        latentjac.load(folder)


def test_a_path_is_no_hub_id(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(latentjac.LoadError, match="an existing folder"):
        latentjac.load(Path("someone/model"))
