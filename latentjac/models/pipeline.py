"""The parts of a diffusers pipeline that a model is made of: which can be used, and how they are read from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentjac.models.adapters import BY_HAND, FAMILIES, NETWORK_PARTS, Encoder, Family
from latentjac.models.configs import check_part, check_schedule, read_config
from latentjac.models.errors import LoadError
from latentjac.models.weights import plan

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "scheduler")
_AUTOENCODERS = {"vae": "AutoencoderKL", "vqvae": "VQModel"}
_LIBRARIES = dict.fromkeys((*NETWORK_PARTS, "controlnet", *_AUTOENCODERS), "diffusers")
_LIBRARIES |= dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"), "transformers")
# Files of low-rank adapters, which diffusers and transformers write beside the weights of what they change.
_ADAPTER_STEMS = ("pytorch_lora_weights", "adapter_model")
_ADAPTERS = tuple(
    f"{stem}.{kind}" for stem in ("pytorch_lora_weights", "adapter_model") for kind in ("safetensors", "bin")
)


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        network: The denoiser.
        scheduler: Its scheduler.
        autoencoder: Between pixels and latents; None for networks that work on pixels.
        text: Encoder of prompts; None for networks without text.
    """

    network: Any
    scheduler: Any
    autoencoder: Any = None
    text: Encoder | None = None


def parts_of(pipeline: Any) -> Parts:
    """Those of a pipeline object.

    Raises:
        LoadError: If the pipeline has others than a model knows.
    """
    held = {name: part for name, part in pipeline.components.items() if part is not None}
    classes = {name: type(part).__name__ for name, part in held.items()}
    configs = {name: dict(getattr(held[name], "config", {})) for name in NETWORK_PARTS if name in held}
    family = _family(type(pipeline).__name__, classes, configs)
    text = None if family.make_text is None else family.make_text(held, pipeline.config)
    if getattr(pipeline, "is_cosxl_edit", False):
        raise LoadError(f"load: is_cosxl_edit of {type(pipeline).__name__} must be False, got True ({BY_HAND})")
    return Parts(family.made(held), pipeline.scheduler, held.get("vae", held.get("vqvae")), text)


def read_parts(folder: Path, variant: str | None, dtype: torch.dtype) -> Parts:
    """Those of a pipeline folder, without pickled weights and without a network.

    Args:
        folder: The folder.
        variant: Weight variant such as ``"fp16"``.
        dtype: Type of the weights.

    Raises:
        LoadError: If a part is not one that a model knows, or its files cannot be or do not fit together.
    """
    index = read_config(folder / "model_index.json")
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1]}
    classes = {name: str(kind) for name, (_, kind) in entries.items()}
    networks = [name for name in NETWORK_PARTS if name in classes]
    for name in networks:
        if not (folder / name / "config.json").exists():
            raise LoadError(
                f"load: folder must hold a diffusers pipeline with safetensors weights, got {str(folder)!r} "
                f"without {name}/config.json"
            )
    configs = {name: _read_part(folder / name / "config.json") for name in networks}
    family = _family(str(index.get("_class_name")), classes, configs)
    for name, (library, kind) in entries.items():
        if name in _LIBRARIES and library != _LIBRARIES[name]:
            where = str(folder / "model_index.json")
            raise LoadError(
                f"load: {where!r}: {name} must be of {_LIBRARIES[name]}, got {str(library)[:60]!r} ({kind})"
            )
    _refuse_adapters(folder)
    coder = next((name for name in ("vae", "vqvae") if name in classes), None)
    scheduler = _read_scheduler(folder / "scheduler" / "scheduler_config.json")
    # All files are looked at before the first is read whole.
    names = [family.part, *family.beside, *([] if coder is None else [coder])]
    plans = {name: _plan_network(folder / name, classes[name], variant, dtype) for name in names}
    text = None if family.read_text is None else family.read_text(folder, index, variant, dtype)
    made = {name: read() for name, read in plans.items()}
    return Parts(family.made(made), scheduler, made.get(coder or ""), None if text is None else text())


def _family(pipeline: str, classes: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]) -> Family:
    """The family that a pipeline of parts of these classes is one of; raise unless a model can be made of them.

    Args:
        pipeline: Its class.
        classes: Of its parts by name.
        configs: Configurations of its networks by name.
    """
    family = next((f for f in FAMILIES if f.takes(classes, configs.get(f.part, {}))), None)
    known: set[str] = {*_IGNORED, *NETWORK_PARTS} if family is None else {*_IGNORED, family.part, *family.requires}
    others = {
        name: kind
        for name, kind in classes.items()
        if name not in known and _AUTOENCODERS.get(name) != kind and not name.startswith("_")
    }
    if family is not None and not others:
        why = family.refusal(configs[family.part], pipeline)
        if why is not None:
            raise LoadError(f"load: config of {family.network}: {why} ({BY_HAND})")
        return family
    beside = f" beside {others}" if others else ""
    if family is not None:
        raise LoadError(
            "load: pipeline must have no parts whose output a network gets and that are not run here, "
            f"got {pipeline} with a {family.network}{beside} ({BY_HAND})"
        )
    networks = ", ".join(f"{name}: {classes[name]}" for name in NETWORK_PARTS if name in classes) or "no network"
    raise LoadError(
        f"load: pipeline must have {', or '.join(map(str, FAMILIES))}, on pixels or on latents of AutoencoderKL or "
        f"VQModel, got {pipeline} with {networks}{beside} ({BY_HAND})"
    )


def _refuse_adapters(folder: Path) -> None:
    """Raise if there are weights of adapters, without which the model would be another."""
    for place in (folder, *(folder / name for name in _LIBRARIES)):
        for name in _ADAPTERS:
            if (place / name).exists():
                raise LoadError(
                    f"load: folder must hold no weights of adapters (LoRA), got {str(place / name)!r}: remove it, or "
                    "load the pipeline and the adapter by diffusers, and the pipeline object by latentjac.load"
                )


def _read_scheduler(path: Path) -> Any:
    import diffusers

    settings = read_config(path)
    if "beta_schedule" not in settings:
        kind = settings.get("_class_name")
        raise LoadError(f"load: scheduler must have a beta_schedule (DDPM, DDIM and relatives), got {kind}")
    check_schedule(repr(str(path)), settings)
    try:
        return diffusers.DDIMScheduler.from_config(settings)
    except Exception as error:
        raise LoadError(f"load: {str(path)!r}: beta_schedule must be one of DDIM, got {error}") from error


def _read_part(path: Path) -> dict[str, Any]:
    config = read_config(path)
    check_part(repr(str(path)), config)
    return config


def _plan_network(folder: Path, kind: str, variant: str | None, dtype: torch.dtype) -> Callable[[], Any]:
    import diffusers

    path = folder / "config.json"
    config = _read_part(path)
    if config.get("_class_name", kind) != kind:
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {str(config['_class_name'])[:60]!r}")
    # Of an object: given a text, diffusers would ask the hub for it.
    return plan(lambda: getattr(diffusers, kind).from_config(config), path, "diffusion_pytorch_model", variant, dtype)
