"""The parts of a diffusers pipeline that a model is made of: which can be used, and how they are read from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from latentjac.models.adapters import FAMILIES, NETWORK_PARTS, Family
from latentjac.models.configs import check_part, check_schedule, read_config
from latentjac.models.errors import LoadError
from latentjac.models.schedulers import check_class
from latentjac.models.text import TextEncoder
from latentjac.models.weights import plan

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "scheduler")
_AUTOENCODERS = {"vae": "AutoencoderKL", "vqvae": "VQModel"}
_INFINITE = ("lambda_min_clipped",)  # of solvers, which diffusers writes as -Infinity
_LIBRARIES = dict.fromkeys((*NETWORK_PARTS, *_AUTOENCODERS, "scheduler"), "diffusers")
_LIBRARIES |= dict.fromkeys(("text_encoder", "tokenizer"), "transformers")


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
    text: TextEncoder | None = None


def parts_of(pipeline: Any) -> Parts:
    """Those of a pipeline object.

    Raises:
        LoadError: If the pipeline has others than a model knows.
    """
    held = {name: part for name, part in pipeline.components.items() if part is not None}
    classes = {name: type(part).__name__ for name, part in held.items()}
    configs = {name: dict(getattr(held[name], "config", {})) for name in NETWORK_PARTS if name in held}
    family = _family(type(pipeline).__name__, classes, configs)
    text = None if family.make_text is None else family.make_text(held)
    return Parts(held[family.part], pipeline.scheduler, held.get("vae", held.get("vqvae")), text)


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
    configs = {name: read_config(folder / name / "config.json") for name in networks}
    family = _family(str(index.get("_class_name")), classes, configs)
    for name, (library, kind) in entries.items():
        if name in _LIBRARIES and library != _LIBRARIES[name]:
            where = str(folder / "model_index.json")
            raise LoadError(
                f"load: {where!r}: {name} must be of {_LIBRARIES[name]}, got {str(library)[:60]!r} ({kind})"
            )
    coder = next((name for name in ("vae", "vqvae") if name in classes), None)
    scheduler = _read_scheduler(folder / "scheduler" / "scheduler_config.json", classes.get("scheduler"))
    # All files are looked at before the first is read whole.
    plans = {name: _plan_network(folder / name, classes[name], variant, dtype) for name in (family.part, coder) if name}
    text = None if family.read_text is None else family.read_text(folder, variant, dtype)
    network, autoencoder = plans[family.part](), None if coder is None else plans[coder]()
    return Parts(network, scheduler, autoencoder, None if text is None else text())


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
        return family
    beside = f" beside {others}" if others else ""
    networks = ", ".join(f"{name}: {classes[name]}" for name in NETWORK_PARTS if name in classes) or "no network"
    raise LoadError(
        f"load: pipeline must have {', or '.join(map(str, FAMILIES))}, on pixels or on latents of AutoencoderKL or "
        f"VQModel, got {pipeline} with {networks}{beside}"
    )


def _read_scheduler(path: Path, kind: str | None) -> Any:
    """The scheduler of a file, of the class that the pipeline names, or else the file."""
    import diffusers

    settings = read_config(path, _INFINITE)
    if "_class_name" not in settings and "beta_schedule" not in settings:
        raise LoadError(f"load: {str(path)!r} must be settings of a scheduler of diffusers, got others")
    own = str(settings.get("_class_name", kind))
    kind = own if kind is None else kind
    made = getattr(diffusers, kind, None)
    if not isinstance(made, type) or not issubclass(made, diffusers.SchedulerMixin):
        raise LoadError(f"load: {str(path)!r}: scheduler must be one of diffusers, got {kind[:60]!r}")
    try:
        check_class("load", made.__name__)
    except ValueError as error:
        raise LoadError(str(error)) from error
    check_schedule(repr(str(path)), settings)
    try:
        scheduler: Any = cast(Any, made).from_config(settings)
    except Exception as error:
        raise LoadError(f"load: {str(path)!r}: beta_schedule and the like must be of {kind}, got: {error}") from error
    # Schedulers with betas can be exchanged for each other.
    if own != kind and not (hasattr(scheduler, "alphas_cumprod") and "beta_schedule" in settings):
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {own[:60]!r}")
    return scheduler


def _plan_network(folder: Path, kind: str, variant: str | None, dtype: torch.dtype) -> Callable[[], Any]:
    import diffusers

    path = folder / "config.json"
    config = read_config(path)
    if config.get("_class_name", kind) != kind:
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {str(config['_class_name'])[:60]!r}")
    check_part(repr(str(path)), config)
    # Of an object: given a text, diffusers would ask the hub for it.
    return plan(lambda: getattr(diffusers, kind).from_config(config), path, "diffusion_pytorch_model", variant, dtype)
