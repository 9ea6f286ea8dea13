"""The parts of a diffusers pipeline that a model is made of: which can be used, and how they are read from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "scheduler", "unet", "tokenizer")
_KNOWN = {"vae": "AutoencoderKL", "vqvae": "VQModel", "text_encoder": "CLIPTextModel"}
_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")


class LoadError(RuntimeError):
    """A model could not be found, fetched or understood."""


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


def read_parts(folder: Path, index: Mapping[str, Any], variant: str | None, dtype: torch.dtype) -> Parts:
    """Those of a pipeline folder, without pickled weights.

    Args:
        folder: The folder.
        index: What its ``model_index.json`` says.
        variant: Weight variant such as ``"fp16"``.
        dtype: Type of the weights.

    Raises:
        LoadError: If a part is not one that a model knows, or its files do not fit together.
    """
    classes = {
        name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]
    }
    _check(str(index.get("_class_name")), classes)
    try:
        return _read(folder, classes, variant, dtype)
    except LoadError:
        raise
    except Exception as error:
        # diffusers, transformers and safetensors raise many kinds here; all say that the files do not fit together.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoadError(f"load: {str(folder)!r} must hold safetensors weights that fit its config: {reason}") from error


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


def _read(folder: Path, classes: Mapping[str, str], variant: str | None, dtype: torch.dtype) -> Parts:
    import diffusers

    def weights(name: str) -> Any:
        part, report = getattr(diffusers, classes[name]).from_pretrained(
            folder / name,
            use_safetensors=True,
            variant=variant,
            torch_dtype=dtype,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
        wrong = [*report["missing_keys"], *report["unexpected_keys"]]
        if wrong:
            raise LoadError(
                f"load: safetensors weights must fit the config, got {len(wrong)} that do not, first {wrong[0]}"
            )
        return part

    coder = next((name for name in ("vae", "vqvae") if name in classes), None)
    return Parts(
        weights("unet"),
        diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
        None if coder is None else weights(coder),
        *(_read_text(folder, variant, dtype) if "text_encoder" in classes else ()),
    )


def _read_text(folder: Path, variant: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise LoadError("load: models with text need transformers: pip install 'latentjac[text]'") from error
    encoder: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True, variant=variant)
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder.to(dtype)
