"""The parts of a diffusers pipeline that a model is made of: which can be used, and how they are read from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from latentjac.models import autoencoders
from latentjac.models.adapters import BY_HAND, FAMILIES, NETWORK_PARTS, Encoder, Family, class_now
from latentjac.models.configs import check_part, check_schedule, read_config
from latentjac.models.errors import LoadError
from latentjac.models.schedulers import check_class
from latentjac.models.weights import plan

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "scheduler")
_INFINITE = ("lambda_min_clipped",)  # of solvers, which diffusers writes as -Infinity
_LIBRARIES = dict.fromkeys((*NETWORK_PARTS, "controlnet", *autoencoders.PARTS, "scheduler"), "diffusers")
_LIBRARIES |= dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"), "transformers")
# Files of low-rank adapters, which diffusers and transformers write beside the weights of what they change.
_ADAPTER_STEMS = ("pytorch_lora_weights", "adapter_model")
_ADAPTERS = tuple(f"{stem}.{kind}" for stem in _ADAPTER_STEMS for kind in ("safetensors", "bin"))


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
    # Of what torch.compile wraps, the part itself.
    held = {name: getattr(part, "_orig_mod", part) for name, part in pipeline.components.items() if part is not None}
    classes = {name: type(part).__name__ for name, part in held.items()}
    configs = {name: dict(getattr(held[name], "config", {})) for name in NETWORK_PARTS if name in held}
    family = _family(type(pipeline).__name__, classes, configs)
    text = None if family.make_text is None else family.make_text(held, pipeline.config)
    if getattr(pipeline, "is_cosxl_edit", False):
        raise LoadError(f"load: is_cosxl_edit of {type(pipeline).__name__} must be False, got True ({BY_HAND})")
    coder = next((held[name] for name in autoencoders.PARTS if name in held), None)
    return Parts(family.made(held), pipeline.scheduler, coder, text)


def read_parts(folder: Path, variant: str | None, dtypes: tuple[torch.dtype, torch.dtype]) -> Parts:
    """Those of a pipeline folder, without pickled weights and without a network.

    Args:
        folder: The folder.
        variant: Weight variant such as ``"fp16"``.
        dtypes: Types of the weights of the network, and of those of the autoencoder.

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
    classes |= {name: class_now(classes[name], config) for name, config in configs.items()}
    family = _family(str(index.get("_class_name")), classes, configs)
    for name, (library, kind) in entries.items():
        if name in _LIBRARIES and library != _LIBRARIES[name]:
            where = str(folder / "model_index.json")
            raise LoadError(
                f"load: {where!r}: {name} must be of {_LIBRARIES[name]}, got {str(library)[:60]!r} ({kind})"
            )
    _refuse_adapters(folder)
    coder = next((name for name in autoencoders.PARTS if name in classes), None)
    scheduler = _read_scheduler(folder / "scheduler" / "scheduler_config.json", classes.get("scheduler"))
    # All files are looked at before the first is read whole.
    types = dict.fromkeys((family.part, *family.beside), dtypes[0]) | {coder: dtypes[1]}
    plans = {
        name: _plan_network(folder / name, configs.get(name), classes[name], variant, types[name])
        for name in types
        if name
    }
    text = None if family.read_text is None else family.read_text(folder, index, variant, dtypes[0])
    made = {name: read() for name, read in plans.items()}
    return Parts(family.made(made), scheduler, made.get(coder or ""), None if text is None else text())


def read_network(folder: Path, variant: str | None, dtype: torch.dtype) -> Any:
    """The denoiser in a folder of its own; errors as in :func:`read_parts`."""
    path = folder / "config.json"
    kind, known = read_config(path).get("_class_name"), sorted({family.network for family in FAMILIES})
    if kind not in known:
        raise LoadError(f"load: {str(path)!r}: _class_name must be one of {known}, got {str(kind)[:60]!r}")
    return _plan_network(folder, None, kind, variant, dtype)()


def _family(pipeline: str, classes: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]) -> Family:
    """The family that a pipeline of parts of these classes is one of; raise unless a model can be made of them.

    Args:
        pipeline: Its class.
        classes: Of its parts by name.
        configs: Configurations of its networks by name.
    """
    family = next((f for f in FAMILIES if f.takes(classes, configs.get(f.part, {}))), None)
    known: set[str] = (
        {*_IGNORED, *NETWORK_PARTS} if family is None else {*_IGNORED, family.part, *family.requires, *family.allows}
    )
    others = {
        name: kind
        for name, kind in classes.items()
        if name not in known
        and not (name in autoencoders.PARTS and kind in autoencoders.KINDS)
        and not name.startswith("_")
    }
    if family is not None and not others:
        why = family.refusal(configs[family.part], pipeline)
        if why is not None:
            raise LoadError(f"load: config of {family.network}: {why} ({BY_HAND})")
        return family
    beside = f" beside {others}" if others else ""
    beside += "".join(f" ({autoencoders.REFUSED[kind]})" for kind in others.values() if kind in autoencoders.REFUSED)
    if family is not None:
        raise LoadError(
            "load: pipeline must have no parts whose output a network gets and that are not run here, "
            f"got {pipeline} with a {family.network}{beside} ({BY_HAND})"
        )
    networks = ", ".join(f"{name}: {classes[name]}" for name in NETWORK_PARTS if name in classes) or "no network"
    near = [str(f) for f in FAMILIES if classes.get(f.part) == f.network]
    wanted = ", or ".join(dict.fromkeys(near or [f"a {f.network}" for f in FAMILIES]))
    raise LoadError(
        f"load: pipeline must have {wanted}, on pixels or on latents of {' or '.join(autoencoders.KINDS)}, "
        f"got {pipeline} with {networks}{beside} ({BY_HAND})"
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


def _read_part(path: Path) -> dict[str, Any]:
    config = read_config(path)
    check_part(repr(str(path)), config)
    return config


def _plan_network(
    folder: Path, config: dict[str, Any] | None, kind: str, variant: str | None, dtype: torch.dtype
) -> Callable[[], Any]:
    """What reads a part of diffusers, of its configuration if that was read before."""
    import diffusers

    path = folder / "config.json"
    config = _read_part(path) if config is None else config
    if class_now(str(config.get("_class_name", kind)), config) != kind:
        raise LoadError(f"load: {str(path)!r}: _class_name must be {kind}, got {str(config['_class_name'])[:60]!r}")
    # Of an object: given a text, diffusers would ask the hub for it.
    return plan(lambda: getattr(diffusers, kind).from_config(config), path, "diffusion_pytorch_model", variant, dtype)
