"""All pipelines of diffusers: what they are made of, which of them make pictures, and which open.

A pipeline is looked at by its class alone: by the classes of the parts in its signature, and by what the configuration
of its network was published with where that differs from the defaults of the class. It opens where `load` takes a
pipeline of these. What its guidance or its sampler does beside the network stays with diffusers.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import diffusers
from diffusers import DiffusionPipeline

import latentjac
from latentjac.models.adapters import FAMILIES
from latentjac.models.pipeline import family_of_parts
from latentjac.models.schedulers import check_class

# Packages of diffusers that make no pictures: video, sound, shapes, texts, proteins.
NOT_PICTURES = frozenset(
    """
    ace_step allegro animatediff anyflow audioldm2 chronoedit cogvideo diffusion_gemma easyanimate helios hunyuan_video
    hunyuan_video1_5 kandinsky6 latte llada2 longcat_audio_dit ltx ltx2 lucy mochi motif_video rfd4_proteina sana_video
    sana_wm shap_e skyreels_v2 stable_audio stable_audio_3 stable_video_diffusion wan
    """.split()
)
# The same in packages of several kinds; and what makes embeddings alone.
_NO_PICTURE = re.compile(
    r"Video|AnimateDiff|World|T2V|I2V|^PIA|Audio|Music|Dance|Omni3|Predict|Transfer|Cosmos3|Prior|ConsisID"
)

_XL = {"addition_embed_type": "text_time", "cross_attention_dim": 2048, "projection_class_embeddings_input_dim": 2816}
_IF = {"encoder_hid_dim_type": "text_proj", "addition_embed_type": "text", "in_channels": 3, "out_channels": 6}
_KANDINSKY = {
    "encoder_hid_dim_type": "image_proj", "addition_embed_type": "image", "in_channels": 4, "out_channels": 8,
}  # fmt: skip
# Where published networks differ from the defaults of their class, by a pattern for names of pipelines.
_PUBLISHED: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"XL", _XL),
    (r"InstructPix2Pix|LatentUpscale|Marigold", {"in_channels": 8}),
    (r"^(StableDiffusion|StableDiffusionXL)InpaintPipeline$", {"in_channels": 9}),
    (r"^PaintByExample", {"in_channels": 9}),
    (r"LatentUpscale", {"out_channels": 5, "time_cond_proj_dim": 896}),
    (r"Depth2Img", {"in_channels": 5}),
    (r"StableDiffusionUpscale", {"in_channels": 7, "num_class_embeds": 1000}),
    (r"LDMSuperResolution", {"in_channels": 6, "out_channels": 3}),
    (r"KarrasVe", {"in_channels": 3}),
    (r"GLIGEN", {"attention_type": "gated"}),
    (r"LatentConsistency", {"time_cond_proj_dim": 256}),
    (r"^ConsistencyModelPipeline", {"num_class_embeds": 1000}),
    (r"StableUnCLIP", {"class_embed_type": "projection"}),
    (r"^IF", _IF),
    (r"^IF.*SuperResolution", {"in_channels": 6, "class_embed_type": "timestep"}),
    (r"^Kandinsky(V22|Img|Inp|Comb|Pip)", _KANDINSKY),
    (r"^Kandinsky(Img|Inp|Comb|Pip)", {"encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image"}),
    (r"^KandinskyV22Controlnet", {"addition_embed_type": "image_hint", "in_channels": 8}),
    (r"^Kandinsky(V22)?Inpaint", {"in_channels": 9}),
    (r"MarigoldIntrinsics", {"in_channels": 12, "out_channels": 8}),
    (r"^FluxControl(Img2Img|Inpaint)?Pipeline$", {"in_channels": 128, "out_channels": 64}),
    (r"^FluxFill|^VisualCloze", {"in_channels": 384, "out_channels": 64}),
    (r"^CogView4Control", {"in_channels": 32, "out_channels": 16}),
    (r"^Kandinsky5I2I", {"visual_cond": True}),
    (r"PixArt", {"sample_size": 128, "caption_channels": 4096}),
)  # fmt: skip
# Where the network of a published pipeline is of another class than the first of its signature.
_NETWORKS = {
    "LDMTextToImagePipeline": {"unet": "UNet2DConditionModel"},
    "StableDiffusionControlNetXSPipeline": {"unet": "UNetControlNetXSModel"},  # it makes one of its two networks
    "StableDiffusionXLControlNetXSPipeline": {"unet": "UNetControlNetXSModel"},
}
_VAE_CHANNELS = {"StableDiffusionLDM3DPipeline": 6}  # a picture and its depth; 3 elsewhere
# Parts that can be missing but that published pipelines have; others, such as encoders of images, mostly are.
_TEXT = ("tokenizer", "text_encoder")
_SMALL = ("tokenizer", "processor", "scheduler", "normalizer", "watermarker")  # go with others


def pipelines() -> dict[str, dict[str, str]]:
    """Classes of the parts that each pipeline cannot do without, by name."""
    return {name: _parts(kind, needed=True) for name, kind in kinds().items()}


def kinds() -> dict[str, Any]:
    """Classes of all pipelines by name, each once."""
    found = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if "Pipeline" in name else None
        if inspect.isclass(kind) and issubclass(kind, DiffusionPipeline) and kind is not DiffusionPipeline:
            found[name] = kind
    return found


def _parts(kind: Any, *, needed: bool) -> dict[str, str]:
    types: dict[str, Any] = kind._get_signature_types()
    optional = {*kind._optional_components} - {"transformer"} if needed else set()  # of Wan, which can have one of two
    parts = {part: first_class(of) for part, of in types.items() if part not in optional}
    return {part: of for part, of in parts.items() if of is not None}


def first_class(of: Any) -> str | None:
    known = [kind for kind in of if getattr(kind, "__module__", "").partition(".")[0] in ("diffusers", "transformers")]
    return getattr(known[0], "__name__", str(known[0])) if known else None


def package_of(kind: Any) -> str:
    """``"flux"`` of ``diffusers.pipelines.flux...``."""
    return kind.__module__.split(".")[2]


def image_pipelines() -> dict[str, dict[str, str]]:
    """Those that make pictures, as published: with the text encoders that they could do without."""
    found = {}
    for name, kind in kinds().items():
        if package_of(kind) not in NOT_PICTURES and not _NO_PICTURE.search(name):
            whole = _parts(kind, needed=False)
            texts = {part: of for part, of in whole.items() if part.startswith(_TEXT)}
            found[name] = {**_parts(kind, needed=True), **texts, **_NETWORKS.get(name, {})}
    return found


def published(name: str, classes: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Configurations of the networks of a pipeline, as far as they differ from the defaults of their classes."""
    found = {part: {} for part in classes}
    for pattern, config in _PUBLISHED:
        if re.search(pattern, name):
            for part in ("unet", "transformer"):
                found.get(part, {}).update(config)
    return found


def refusal_of(name: str, classes: dict[str, str], configs: dict[str, dict[str, Any]] | None = None) -> str | None:
    """Why `load` would not take such a pipeline; None where it would."""
    try:
        family_of_parts(name, classes, {part: {} for part in classes} if configs is None else configs)
    except latentjac.LoadError as error:
        return str(error)
    return None


def whole_refusal(name: str, classes: dict[str, str]) -> str | None:
    """The same for a published pipeline, in short: of its parts, its network, its scheduler and its autoencoder."""
    refusal = refusal_of(name, classes, published(name, classes))
    if refusal is not None:
        return reason(classes, refusal)
    try:
        check_class("load", classes.get("scheduler", ""))
    except ValueError:
        return f"levels of {classes['scheduler']}"
    return f"an autoencoder of {_VAE_CHANNELS[name]} channels" if name in _VAE_CHANNELS else None


def reason(classes: dict[str, str], refusal: str) -> str:
    """A refusal in short: the network, the parts beside it, or what of the configuration is not known."""
    networks = [of for of in classes.values() if of.startswith(("UNet", "Transformer")) or "Transformer" in of]
    networks += [of for part, of in classes.items() if part in ("unet", "transformer", "decoder", "prior")]
    if not any(of == family.network for family in FAMILIES for of in networks):
        return f"network {networks[0]}" if networks else "no network of its own"
    beside = re.search(r" beside (\{.*?\})", refusal)
    if beside:
        named = re.findall(r"'(\w+)': '(\w+)'", beside[1])
        kept = [f"{part} {kind}" for part, kind in named if not part.endswith(_SMALL)]
        return "gets " + ", ".join(kept or [part for part, _ in named])
    if re.search(r"gets (a picture|pictures) as well", refusal):
        return "gets a picture"
    key = re.search(r"config of \w+: ((\w+) must[^,]*)", refusal)
    if key and key[2] == "it":
        return key[1]
    return f"{key[2]} of its network" if key else f"parts of a {networks[0]}"


def share() -> tuple[dict[str, int], list[dict[str, str]]]:
    """How many image pipelines open, and those that do not, by reason."""
    refused: dict[str, list[str]] = {}
    found = image_pipelines()
    for name, classes in found.items():
        why = whole_refusal(name, classes)
        if why is not None:
            refused.setdefault(why, []).append(name.removesuffix("Pipeline"))
    count = sum(map(len, refused.values()))
    numbers = {"image pipelines": len(found), "open": len(found) - count, "refused": count}
    numbers["open %"] = round(100 * numbers["open"] / len(found))
    rows = [{"reason": why, "pipelines": ", ".join(names)} for why, names in refused.items()]
    return numbers, sorted(rows, key=lambda row: row["reason"])
