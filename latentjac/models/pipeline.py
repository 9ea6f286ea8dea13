"""The parts of a diffusers pipeline that a model is made of: which can be used, and how they are read from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentjac.files import open_file, read_json
from latentjac.models.configs import check_part, check_schedule
from latentjac.models.errors import LoadError, reading
from latentjac.models.weights import plan

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "scheduler", "unet", "tokenizer")
_KNOWN = {"vae": "AutoencoderKL", "vqvae": "VQModel", "text_encoder": "CLIPTextModel"}
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_LIBRARIES = {"unet": "diffusers", "vae": "diffusers", "vqvae": "diffusers"}
_LIBRARIES |= dict.fromkeys(("text_encoder", "tokenizer"), "transformers")
# What decides on the network of a text encoder; other keys, such as quantization, are not for weights as they are.
_TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range",
    "initializer_factor", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        network: The denoiser.
        scheduler: Its scheduler.
        autoencoder: Between pixels and latents; None for networks that work on pixels.
        tokenizer: Of prompts; None for networks without text.
        text_encoder: What the network attends to is its output; None for networks without text.
    """

    network: Any
    scheduler: Any
    autoencoder: Any = None
    tokenizer: Any = None
    text_encoder: Any = None


def parts_of(pipeline: Any) -> Parts:
    """Those of a pipeline object.

    Raises:
        LoadError: If the pipeline has others than a model knows.
    """
    held = {name: part for name, part in pipeline.components.items() if part is not None}
    _check(type(pipeline).__name__, {name: type(part).__name__ for name, part in held.items()})
    return Parts(
        held["unet"],
        pipeline.scheduler,
        held.get("vae", held.get("vqvae")),
        held.get("tokenizer"),
        held.get("text_encoder"),
    )


def read_parts(folder: Path, variant: str | None, dtype: torch.dtype) -> Parts:
    """Those of a pipeline folder, without pickled weights and without a network.

    Args:
        folder: The folder.
        variant: Weight variant such as ``"fp16"``.
        dtype: Type of the weights.

    Raises:
        LoadError: If a part is not one that a model knows, or its files cannot be or do not fit together.
    """
    index = _read_json(folder / "model_index.json")
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    classes = {name: str(kind) for name, (_, kind) in entries.items()}
    _check(str(index.get("_class_name")), classes)
    for name, (library, kind) in entries.items():
        if name in _LIBRARIES and library != _LIBRARIES[name]:
            where = str(folder / "model_index.json")
            raise LoadError(
                f"load: {where!r}: {name} must be of {_LIBRARIES[name]}, got {str(library)[:60]!r} ({kind})"
            )
    coder = next((name for name in ("vae", "vqvae") if name in classes), None)
    scheduler = _read_scheduler(folder / "scheduler" / "scheduler_config.json")
    # All files are looked at before the first is read whole.
    plans = {name: _plan_network(folder / name, classes[name], variant, dtype) for name in ("unet", coder) if name}
    text = _plan_text(folder, variant, dtype) if "text_encoder" in classes else None
    network, autoencoder = plans["unet"](), None if coder is None else plans[coder]()
    return Parts(network, scheduler, autoencoder, *(text() if text else ()))


def _check(pipeline: str, classes: Mapping[str, str]) -> None:
    """Raise unless a model can be made of parts of these classes."""
    text = "text_encoder" in classes
    others = {
        name: kind
        for name, kind in classes.items()
        if name not in _IGNORED and _KNOWN.get(name) != kind and not name.startswith("_")
    }
    network = "UNet2DConditionModel" if text else "UNet2DModel"
    if classes.get("unet") == network and not others and text == (classes.get("tokenizer") in _TOKENIZERS):
        return
    beside = f" beside {others}" if others else ""
    raise LoadError(
        "load: pipeline must have a UNet2DModel, or a UNet2DConditionModel with a CLIPTextModel and its tokenizer, on "
        f"pixels or on latents of AutoencoderKL or VQModel, got {pipeline} with unet: {classes.get('unet')}{beside}"
    )


def _read_scheduler(path: Path) -> Any:
    import diffusers

    settings = _read_json(path)
    if "beta_schedule" not in settings:
        kind = settings.get("_class_name")
        raise LoadError(f"load: scheduler must have a beta_schedule (DDPM, DDIM and relatives), got {kind}")
    check_schedule(repr(str(path)), settings)
    try:
        return diffusers.DDIMScheduler.from_config(settings)
    except Exception as error:
        raise LoadError(f"load: {str(path)!r}: beta_schedule must be one of DDIM, got {error}") from error


def _plan_network(folder: Path, kind: str, variant: str | None, dtype: torch.dtype) -> Callable[[], Any]:
    import diffusers

    path = folder / "config.json"
    config = _read_json(path)
    if config.get("_class_name", kind) != kind:
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {str(config['_class_name'])[:60]!r}")
    check_part(repr(str(path)), config)
    # Of an object: given a text, diffusers would ask the hub for it.
    return plan(lambda: getattr(diffusers, kind).from_config(config), path, "diffusion_pytorch_model", variant, dtype)


def _plan_text(folder: Path, variant: str | None, dtype: torch.dtype) -> Callable[[], tuple[Any, Any]]:
    try:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise LoadError("load: models with text need transformers: pip install 'latentjac[text]'") from error
    path = folder / "text_encoder" / "config.json"
    config = _read_json(path)
    config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    check_part(repr(str(path)), config)
    kept = {name: value for name, value in config.items() if name in _TEXT_KEYS}
    read = plan(lambda: CLIPTextModel(CLIPTextConfig(**kept)), path, "model", variant, dtype)
    _check_tokenizer(folder / "tokenizer", CLIPTextConfig(**kept).max_position_embeddings)

    def read_both() -> tuple[Any, Any]:
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        except Exception as error:
            raise LoadError(f"load: {str(folder / 'tokenizer')!r} must hold a CLIPTokenizer, got {error}") from error
        return tokenizer, read()

    return read_both


def _check_tokenizer(folder: Path, positions: int) -> None:
    """Raise unless a folder holds the files of a tokenizer, in strict JSON, and none that opening would wait for."""
    held = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if not ("tokenizer.json" in held or {"vocab.json", "merges.txt"} <= held):
        raise LoadError(
            f"load: folder must hold tokenizer.json, or vocab.json and merges.txt, got none in {str(folder)!r}"
        )
    for name in sorted(held):
        if name.endswith(".json"):
            _read_json(folder / name)
        elif not (folder / name).is_dir():
            with reading():
                open_file("load", folder / name).close()
    if "tokenizer_config.json" in held:
        path = folder / "tokenizer_config.json"
        length = _read_json(path).get("model_max_length", positions)
        if type(length) is not int or not 2 <= length <= positions:
            raise LoadError(f"load: {str(path)!r}: model_max_length must be an int in [2, {positions}], got {length!r}")


def _read_json(path: Path) -> dict[str, Any]:
    with reading():
        return read_json("load", path)
