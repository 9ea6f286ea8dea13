"""U-Nets that attend to a prompt: Stable Diffusion 1 and 2, those of pictures beside it, and latent consistency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from latentjac.models.adapters import ip_adapters, pixel_unet
from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import embeddings_in
from latentjac.models.text import GUIDANCE_EMBEDDING, TextEncoder
from latentjac.models.text_files import TOKENIZERS

# Inputs that the configuration of a network can ask for, with the values that ask for none that is not given here.
_INPUTS: dict[str, tuple[tuple[Any, ...], str]] = {
    "class_embed_type": ((None,), "a class, a level of noise or an embedding of a picture"),
    "num_class_embeds": ((None,), "a class or a level of noise"),
    "addition_embed_type": ((None, "text", "text_time"), "an embedding of a picture"),
    "encoder_hid_dim_type": ((None, "text_proj"), "an embedding of a picture"),
}
# Pipelines whose networks get pictures beside the sample, in this order.
_PICTURES = {
    ("mask", "image"): ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
    ("image",): ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline"),
}


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts.

    It attends to ``"text"``, embeddings ``[B, tokens, channels]``. By its configuration it gets ``"pooled"`` and
    ``"time_ids"`` (Stable Diffusion XL), a ``"guidance_embedding"`` (latent consistency), and behind the channels of
    the sample those of a ``"mask"`` and of an ``"image"``. With IP-Adapters it gets an ``"image_embedding"`` for each,
    ``[B, pictures, channels]`` or ``[B, pictures, tokens, channels]``.
    """
    return call_with(network, x, t, conditioning)


def call_with(
    network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning, **more: Any
) -> torch.Tensor:
    """The same with more that the network gets by the names of its arguments."""
    beside = [conditioning[name] for name in ("mask", "image", "depth") if name in conditioning]
    if "pooled" in conditioning:
        more["added_cond_kwargs"] = added(conditioning)
    if GUIDANCE_EMBEDDING in conditioning:
        more["timestep_cond"] = conditioning[GUIDANCE_EMBEDDING]
    pictures = embeddings_in(conditioning)
    if pictures:
        more["added_cond_kwargs"] = {**more.get("added_cond_kwargs", {}), "image_embeds": pictures}
    x = torch.cat([x, *beside], dim=1) if beside else x
    return network(x, t, conditioning["text"], **more, return_dict=False)[0]


def added(conditioning: Conditioning) -> dict[str, torch.Tensor] | None:
    """What networks of Stable Diffusion XL get beside what they attend to."""
    if "pooled" not in conditioning:
        return None
    return {"text_embeds": conditioning["pooled"], "time_ids": conditioning["time_ids"]}


def pictures(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what the network gets behind the channels of the sample, by their numbers."""
    channels, predicted = _channels(config)
    return {2 * predicted: ("image",), 2 * predicted + 1: ("mask", "image")}.get(channels, ())


def _channels(config: Mapping[str, Any]) -> tuple[int, int]:
    """Those that the network takes and those that it predicts; files can leave them to the class."""
    return config.get("in_channels", 4), config.get("out_channels", 4)


def further(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what the network gets beside texts."""
    embedded = (GUIDANCE_EMBEDDING,) if config.get("time_cond_proj_dim") else ()
    return (*embedded, *pictures(config))


def sample_shape(network: Any) -> tuple[int, ...]:
    """Channels, height and width of a sample, without those of pictures beside it."""
    channels, height, width = pixel_unet.sample_shape(network)
    return network.config["out_channels"] if pictures(network.config) else channels, height, width


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """The embedding of the scale of guidance, of networks that get one."""
    width = model.network.config.get("time_cond_proj_dim")
    return {GUIDANCE_EMBEDDING: embedded(scale, width)} if width else {}


def embedded(scale: float, width: int) -> torch.Tensor:
    """What networks of latent consistency (Luo et al. 2023) know of a scale of guidance, ``[1, width]``.

    Sines and cosines of 1000 (scale - 1), at frequencies that fall geometrically from 1 to 1/10000; in float32, as
    these networks were trained: phases are so large that its rounding shows.
    """
    half = width // 2
    step = torch.log(torch.tensor(10000.0)) / (half - 1)
    phases = torch.tensor([scale - 1]) * 1000.0 * torch.exp(torch.arange(half) * -step)
    return torch.nn.functional.pad(torch.cat([phases.sin(), phases.cos()])[None], (0, width % 2))


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network of this configuration cannot be used: it gets something that is not given to it here."""
    for key, (usual, what) in _INPUTS.items():
        if config.get(key, usual[0]) not in usual:
            return f"{key} must be {' or '.join(map(repr, usual))}, got {config[key]!r}, so it gets {what} as well"
    channels, predicted = _channels(config)
    beside = pictures(config)
    if channels > predicted and not beside:
        taken = f"{predicted}, as out_channels, or {2 * predicted} or {2 * predicted + 1} (with pictures)"
        return f"in_channels must be {taken}, got {channels}"
    if beside and pipeline not in _PICTURES[beside]:
        known = " or ".join(_PICTURES[beside])
        return f"in_channels must be {predicted} unless the pipeline is a {known}, got {channels} in a {pipeline}"
    width = config.get("time_cond_proj_dim")
    if width is not None and width < 4:
        return f"time_cond_proj_dim must be 4 or more, got {width}"
    return None


def refusal_without(*keys: str) -> Callable[[Mapping[str, Any], str], str | None]:
    """The same for families that give what these keys of the configuration ask for."""
    return lambda config, pipeline: refusal({k: v for k, v in config.items() if k not in keys}, pipeline)


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> TextEncoder:
    """The encoder of prompts of a pipeline."""
    return TextEncoder(parts["tokenizer"], parts["text_encoder"])


TEXT_UNET = Family(
    "UNet2DConditionModel",
    call,
    sample_shape,
    pixel_unet.layers,
    suits=lambda config: config.get("addition_embed_type") != "text_time",
    conditioning=("text",),
    further=further,
    inputs=inputs,
    embeddings=ip_adapters.of_projections,
    refusal=refusal,
    allows=("image_encoder",),
    requires={"text_encoder": ("CLIPTextModel",), "tokenizer": TOKENIZERS},
    make_text=make_text,
)
