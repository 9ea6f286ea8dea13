"""IP-Adapters from files, put onto a U-Net by the loader that its pipeline has in diffusers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentjac.models.errors import LoadError
from latentjac.models.own_loaders import Scaled, check_scaled, pipeline_of, short
from latentjac.models.weights import cast_weights, check_finite

_ENCODER = "image_encoder"


def check_ip_adapters(function: str, ip_adapter: Any) -> Scaled:
    """The files of IP-Adapters, with their scales.

    Args:
        function: For messages.
        ip_adapter: A safetensors file, or several as keys with their scales.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a scale is out of range.
        LoadError: If there is no such file.
    """
    return check_scaled(function, "ip_adapter", ip_adapter, "a file or a mapping of files to scales", _file_of)


def _file_of(source: str | Path) -> Path:
    path = Path(os.path.expanduser(source))
    if path.suffix.lower() != ".safetensors" or not os.path.isfile(path):
        raise LoadError(f"load: ip_adapter must be a safetensors file, got {str(path)!r}")
    return path


def add_ip_adapters(kind: str, made: dict[str, Any], settings: Mapping[str, Any], part: str, adapters: Scaled) -> None:
    """Put adapters onto the U-Net of a pipeline, at their scales; its encoder of pictures is added where it has none.

    That is the folder ``image_encoder`` beside the first file; without one embeddings are given ready.

    Args:
        kind: Class of the pipeline.
        made: Its parts.
        settings: Its other settings.
        part: Which of its parts is the network.
        adapters: Files and scales.

    Raises:
        LoadError: If the pipeline takes none, or a file does not fit.
    """
    if part != "unet":
        raise LoadError(
            f"load: ip_adapter must be None for a {kind}, whose network is no U-Net: load it and the adapter by "
            "diffusers, and give the pipeline object to latentjac.load"
        )
    pipeline = pipeline_of(kind, made, settings, "ip_adapter", "load_ip_adapter")
    network, files = made[part], list(adapters)
    dtype = network.dtype
    beside = files[0].parent / _ENCODER
    here = (beside / "model.safetensors").is_file()  # pickled weights are never read
    try:
        pipeline.load_ip_adapter(
            [str(file.parent) for file in files],
            subfolder="",
            weight_name=[file.name for file in files],
            image_encoder_folder=_ENCODER if here else None,
            local_files_only=True,
        )
        pipeline.set_ip_adapter_scale(list(adapters.values()))
    except Exception as error:  # whatever a loader of diffusers finds wrong
        names = ", ".join(repr(str(file)) for file in files)
        raise LoadError(f"load: ip_adapter must fit a {kind}, got {names}: {short(error)}") from error
    for name in (_ENCODER, "feature_extractor"):
        if getattr(pipeline, name, None) is not None:
            made[name] = getattr(pipeline, name)
    cast_weights(network, dtype)  # adapters come in the type of their file
    check_finite(f"{type(network).__name__} with ip_adapter", network.named_parameters())
    network.eval()
