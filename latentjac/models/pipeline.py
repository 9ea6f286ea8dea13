"""The parts of a diffusers pipeline that a model is made of, and which can be used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latentjac.models import adapters, autoencoders
from latentjac.models.adapters import BY_HAND, FAMILIES, NETWORK_PARTS, Encoder, Family, name_of
from latentjac.models.errors import LoadError
from latentjac.models.image_prompts import ExampleEncoder, ImageEncoder, Noising
from latentjac.models.parts import unwrapped
from latentjac.models.pipeline_text import PipelineText

logger = logging.getLogger("latentjac")

# Parts that change neither the network's input nor what becomes of its output.
_IGNORED = ("safety_checker", "feature_extractor", "watermarker", "scheduler")
# What pipelines with these words in their names do beside calling their networks, at their usual settings.
_OWN_WAYS = {
    "AttendAndExcite": "it moves samples until words are attended to",
    "LEdits": "it edits by a guidance of its own",
    "PAG": "it guides by perturbed attention",
    "Panorama": "it averages over parts of a wide picture",
    "SAG": "it guides by self-attention",
    "Safe": "it guides away from unsafe pictures",
    "Semantic": "it guides by further texts",
}
# Named where a pipeline has no network of any family: there are too many to name them all.
_WELL_KNOWN = ("UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "SD3Transformer2DModel",
               "FluxTransformer2DModel", "QwenImageTransformer2DModel")  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        network: The denoiser.
        scheduler: Its scheduler.
        autoencoder: Between pixels and latents; None for networks that work on pixels.
        text: Encoder of prompts; None for networks without text.
        image_encoder: Encoder of pictures; None for networks without embeddings of such, or where there is none.
        noising: The noise that pictures or their embeddings get; None for none.
        unguided: Whether the pipeline ignores scales of guidance.
    """

    network: Any
    scheduler: Any
    autoencoder: Any = None
    text: Encoder | None = None
    image_encoder: ImageEncoder | None = None
    noising: Noising | None = None
    unguided: bool = False


def parts_of(pipeline: Any) -> Parts:
    """Those of a pipeline object.

    Raises:
        LoadError: If the pipeline has others than a model knows.
    """
    held = {name: unwrapped(part) for name, part in pipeline.components.items() if part is not None}
    classes = {name: type(part).__name__ for name, part in held.items()}
    configs = {name: dict(getattr(held[name], "config", {})) for name in NETWORK_PARTS if name in held}
    family = family_of_parts(type(pipeline).__name__, classes, configs)
    if getattr(pipeline, "is_cosxl_edit", False):
        raise LoadError(f"load: is_cosxl_edit of {type(pipeline).__name__} must be False, got True ({BY_HAND})")
    return made_of(family, type(pipeline).__name__, held, pipeline.config, pipeline.scheduler)


def _tell_of_own_ways(pipeline: str) -> None:
    """Log what a pipeline of this class does that a model of it does not."""
    for word, what in _OWN_WAYS.items():
        if word in pipeline:
            logger.warning(
                "load: %s: %s; that is left out, pictures here are those of its network alone", pipeline, what
            )


def made_of(
    family: Family, pipeline: str, held: Mapping[str, Any], settings: Mapping[str, Any], scheduler: Any
) -> Parts:
    """What a model is made of, of the parts of a pipeline of a class by name and its settings."""
    _tell_of_own_ways(pipeline)
    text = None if family.make_text is None else _text_of(family, held, settings)
    coder = next((held[name] for name in autoencoders.PARTS if name in held), None)
    scheduler = family.scheduled(scheduler, settings)
    return Parts(
        family.made(held, settings),
        scheduler,
        None if coder is None else family.coded(coder, held),
        text,
        _image_encoder(held),
        family.noising(held),
        family.unguided(pipeline, settings),
    )


def _text_of(family: Family, held: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The encoder of prompts of a family."""
    assert family.make_text is not None
    name = name_of(family)
    return family.make_text(held, settings) if name is None else _text(name, held, settings)


def _text(family: str, held: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The encoder of prompts of a family of this name, which can be made again in another process."""
    text: Any = getattr(adapters, family).make_text(held, settings)
    if isinstance(text, PipelineText):
        parts = {name: part for name, part in held.items() if name != "safety_checker"}
        text.recipe = _text, (family, parts, dict(settings))
    return text


def _image_encoder(held: Mapping[str, Any]) -> ImageEncoder | None:
    """That of a pipeline, or of the prior in it; None without one or without the preprocessing of its pictures."""
    for encoder, processor in (
        ("image_encoder", "feature_extractor"),
        ("prior_image_encoder", "prior_image_processor"),
    ):
        if encoder in held and processor in held:
            made = ExampleEncoder if hasattr(held[encoder], "uncond_vector") else ImageEncoder
            return made(held[processor], held[encoder])
    return None


def family_of_parts(pipeline: str, classes: Mapping[str, str], configs: Mapping[str, Mapping[str, Any]]) -> Family:
    """The family that a pipeline of parts of these classes is one of; raise unless a model can be made of them.

    Args:
        pipeline: Its class.
        classes: Of its parts by name.
        configs: Configurations of its networks by name.
    """
    family = next((f for f in FAMILIES if f.takes(pipeline, classes, configs.get(f.part, {}))), None)
    own = NETWORK_PARTS if family is None else (family.part, *family.requires, *family.allows, *family.ignores)
    known = {*_IGNORED, *own}
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
    wanted = ", or ".join(dict.fromkeys(near or [f"a {network}" for network in _WELL_KNOWN]))
    wanted += "" if near else ", or another network of latentjac.models.adapters.FAMILIES"
    raise LoadError(
        f"load: pipeline must have {wanted}, on pixels or on latents of {' or '.join(autoencoders.KINDS)}, "
        f"got {pipeline} with {networks}{beside} ({BY_HAND})"
    )
