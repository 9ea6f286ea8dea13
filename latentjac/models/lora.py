"""Low-rank adapters (LoRA) from files, put onto the parts of a folder by the loader of its pipeline in diffusers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentjac.arguments import shown
from latentjac.models.errors import LoadError
from latentjac.models.mistaken import ADAPTER_STEMS
from latentjac.models.own_loaders import Scaled, check_peft, check_scaled, pipeline_of, short
from latentjac.models.weights import cast_weights, check_finite

_STEM = ADAPTER_STEMS[0]


def check_loras(function: str, lora: Any) -> Scaled:
    """The files of low-rank adapters, with their scales.

    Args:
        function: For messages.
        lora: A safetensors file, a folder with one, or several of these as keys with their scales.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a scale is out of range.
        LoadError: If there is no such file.
    """

    def file_of(source: str | Path) -> Path:
        try:
            return _file_of(Path(os.path.expanduser(source)))
        except (OSError, ValueError) as error:  # no name of a file
            raise LoadError(f"{function}: lora must be a file or a folder, got {shown(source)}: {error}") from error

    return check_scaled(function, "lora", lora, "a file, a folder or a mapping of such to scales", file_of)


def _file_of(path: Path) -> Path:
    """The file of weights at a place."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        usual = path / f"{_STEM}.safetensors"
        if usual not in files and len(files) != 1:
            raise LoadError(
                f"load: lora must be a safetensors file, or a folder with {usual.name} or one such file alone, got "
                f"{str(path)!r} with {len(files)}"
            )
        return usual if usual in files else files[0]
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise LoadError(
            f"load: lora must be a safetensors file or a folder with one (save_lora_weights of diffusers writes such), "
            f"got {str(path)!r}"
        )
    return path


def add_loras(kind: str, made: Mapping[str, Any], settings: Mapping[str, Any], part: str, loras: Scaled) -> None:
    """Put adapters onto the parts of a pipeline, active at their scales.

    Args:
        kind: Class of the pipeline.
        made: Its parts.
        settings: Its other settings.
        part: Which of its parts is the network.
        loras: Files and scales.

    Raises:
        LoadError: If the pipeline takes none, or a file does not fit.
    """
    pipeline = pipeline_of(kind, made, settings, "lora", "load_lora_weights")
    check_peft()
    dtype = made[part].dtype
    names = [f"default_{i}" for i in range(len(loras))]  # as diffusers names them
    for name, file in zip(names, loras, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of the adapter before
                pipeline.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True,
                    use_safetensors=True,
                )  # fmt: skip
        except Exception as error:  # whatever a loader of diffusers finds wrong
            raise LoadError(f"load: lora must fit a {kind}, got {str(file)!r}: {short(error)}") from error
        if not any(name in held for held in pipeline.get_list_adapters().values()):
            raise LoadError(
                f"load: lora must fit a {kind}, got {str(file)!r}, in which nothing has the name of a part of it"
            )
    pipeline.set_adapters(names, list(loras.values()))
    for held in made.values():
        if isinstance(held, torch.nn.Module):
            check_finite(f"{type(held).__name__} with lora", held.named_parameters())
            held.eval()
    cast_weights(made[part], dtype)  # adapters come in the type of their file
