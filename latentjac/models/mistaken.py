"""What was given in place of a pipeline, and what to do about it: parts of one, adapters, and files of other kinds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from latentjac.models import autoencoders
from latentjac.models.adapters import FAMILIES
from latentjac.models.configs import read_config
from latentjac.models.errors import LoadError

INDEX = "model_index.json"
ADAPTER_STEMS = ("pytorch_lora_weights", "adapter_model")  # of files that diffusers and peft write
_OF_PIPELINE = "give the folder of its pipeline, which has a model_index.json, or the pipeline object"
_WIDEST = 32  # vectors of a textual inversion; embeddings of a whole vocabulary are more


def of_folder(folder: Path) -> str:
    """What a folder without the index of a pipeline is, in parentheses behind a blank; or nothing."""
    found = _of_folder(folder)
    return f" ({found})" if found else ""


def _of_folder(folder: Path) -> str | None:
    if (folder / "config.json").exists():
        return _of_config(folder)
    if (folder / "scheduler_config.json").exists():
        return f"it is the folder of a scheduler, which has no network: {_OF_PIPELINE}"
    if (folder.parent / INDEX).exists():
        return f"it is a part of a pipeline: give {str(folder.parent)!r}"
    if any((folder / f"{stem}{end}").exists() for stem in ADAPTER_STEMS for end in (".safetensors", ".bin")):
        return (
            "it is the folder of an adapter (LoRA): give the folder of a pipeline, and this one as lora=, or load a "
            "pipeline by diffusers, add the adapter by pipeline.load_lora_weights(folder), and give the pipeline object"
        )
    below = sorted(path.parent.name for path in folder.glob(f"*/{INDEX}"))
    if below:
        return f"there is one below: give {str(folder / below[0])!r}"
    files = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".gguf", ".ckpt"))
    return f"it holds {files[0]!r}: give that file, if it is of a whole model" if files else None


def _of_config(folder: Path) -> str:
    """What the folder of one part is."""
    config: Mapping[str, Any] = {}
    with suppress(LoadError):  # that it is broken is said where it is read
        config = read_config(folder / "config.json")
    kind = str(config.get("_class_name", ""))[:60]
    if config.get("architectures") or "model_type" in config:
        names = config.get("architectures")
        kind = str(names[0] if isinstance(names, list) and names else config.get("model_type"))[:60]
        return f"it is the folder of a {kind} of transformers, which is no denoiser: {_OF_PIPELINE}"
    if is_autoencoder(kind):
        return f"it is the folder of an autoencoder, {kind}, which is no denoiser: {_OF_PIPELINE}"
    if kind and not any(kind == family.network for family in FAMILIES):
        return f"it is the folder of a {kind} alone: {_OF_PIPELINE}"
    return "the folder of a network alone needs its scheduler: load(folder, scheduler)"


def is_autoencoder(kind: str) -> bool:
    """Whether a class of diffusers is of autoencoders."""
    return kind.startswith(("Autoencoder", "AsymmetricAutoencoder")) or kind in autoencoders.KINDS


def of_object(source: Any) -> str | None:
    """Why a network is no denoiser, and what to do; None where it may be one."""
    kind, module = type(source).__name__, type(source).__module__
    if is_autoencoder(kind):
        return f"a denoising network, got the autoencoder {kind} alone: give the pipeline object that it belongs to"
    if module.startswith("transformers."):
        return f"a denoising network, got a {kind} of transformers: give the pipeline object that it belongs to"
    return None


def of_file(path: Path) -> str | None:
    """Why a file that is there cannot be a model by its name, and what to do; None where it may be one."""
    if path.suffix.lower() != ".gguf":
        return None
    return (
        "a safetensors file, got a file of quantized weights (GGUF), whose Jacobian would be that of rounded weights "
        "only: load the network by diffusers (from_single_file with GGUFQuantizationConfig), give its weights in "
        "float32 by network.dequantize(), and the pipeline object to latentjac.load"
    )


def is_textual_inversion(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the tensors of a file are a few embeddings of words and nothing else."""
    few = all(len(shape) in (1, 2) and (len(shape) == 1 or shape[0] <= _WIDEST) for shape in shapes.values())
    return 0 < len(shapes) <= 2 and few and not any(name.endswith((".weight", ".bias")) for name in shapes)
