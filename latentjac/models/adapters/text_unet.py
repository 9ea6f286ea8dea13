"""U-Nets that attend to a prompt: Stable Diffusion 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from latentjac.files import open_file
from latentjac.models.adapters.family import Family
from latentjac.models.adapters.pixel_unet import layers, sample_shape
from latentjac.models.conditioning import Conditioning
from latentjac.models.configs import check_part, read_config
from latentjac.models.errors import LoadError, reading
from latentjac.models.text import TextEncoder
from latentjac.models.weights import plan

_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
# What decides on the network of a text encoder; other keys, such as quantization, are not for weights as they are.
_TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range",
    "initializer_factor", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """Attend to ``"text"``, embeddings ``[B, tokens, channels]``."""
    return network(x, t, conditioning["text"], return_dict=False)[0]


def make_text(parts: Mapping[str, Any]) -> TextEncoder:
    """The encoder of prompts of a pipeline."""
    return TextEncoder(parts["tokenizer"], parts["text_encoder"])


def read_text(folder: Path, variant: str | None, dtype: torch.dtype) -> Callable[[], TextEncoder]:
    """The encoder of prompts of a pipeline folder; weights are read when what comes back is called.

    Raises:
        LoadError: If transformers is missing, or files cannot be or do not fit together.
    """
    try:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise LoadError("load: models with text need transformers: pip install 'latentjac[text]'") from error
    path = folder / "text_encoder" / "config.json"
    config = read_config(path)
    config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    check_part(repr(str(path)), config)
    kept = {name: value for name, value in config.items() if name in _TEXT_KEYS}
    read = plan(lambda: CLIPTextModel(CLIPTextConfig(**kept)), path, "model", variant, dtype)
    _check_tokenizer(folder / "tokenizer", CLIPTextConfig(**kept).max_position_embeddings)

    def read_both() -> TextEncoder:
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        except Exception as error:
            raise LoadError(f"load: {str(folder / 'tokenizer')!r} must hold a CLIPTokenizer, got {error}") from error
        return TextEncoder(tokenizer, read())

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
            read_config(folder / name)
        elif not (folder / name).is_dir():
            with reading():
                open_file("load", folder / name).close()
    if "tokenizer_config.json" in held:
        path = folder / "tokenizer_config.json"
        length = read_config(path).get("model_max_length", positions)
        if type(length) is not int or not 2 <= length <= positions:
            raise LoadError(f"load: {str(path)!r}: model_max_length must be an int in [2, {positions}], got {length!r}")


TEXT_UNET = Family(
    "UNet2DConditionModel",
    call,
    sample_shape,
    layers,
    conditioning=("text",),
    requires={"text_encoder": ("CLIPTextModel",), "tokenizer": _TOKENIZERS},
    read_text=read_text,
    make_text=make_text,
)
