"""Families of networks: one file each, and a row in the table."""

from collections.abc import Mapping
from typing import Any

from latentjac.models.adapters.animatediff import ANIMATEDIFF, ANIMATEDIFF_XL
from latentjac.models.adapters.audio_ldm import AUDIO_LDM
from latentjac.models.adapters.audio_ldm2 import AUDIO_LDM_2
from latentjac.models.adapters.aura_flow import AURA_FLOW
from latentjac.models.adapters.bria import BRIA, FIBO, FIBO_EDIT
from latentjac.models.adapters.chroma import CHROMA
from latentjac.models.adapters.class_unet import CLASS_UNET
from latentjac.models.adapters.cog_view3 import COG_VIEW3
from latentjac.models.adapters.cog_view4 import COG_VIEW4, COG_VIEW4_CONTROL
from latentjac.models.adapters.cogvideox import COGVIDEOX
from latentjac.models.adapters.controlled import (
    COMPLETED_Z_IMAGE,
    CONTROLLED_FLUX,
    CONTROLLED_HUNYUAN_DIT,
    CONTROLLED_QWEN_IMAGE,
    CONTROLLED_SANA,
    CONTROLLED_SD3,
    CONTROLLED_Z_IMAGE,
    ControlledTransformer,
)
from latentjac.models.adapters.controlnet import (
    ADAPTED,
    ADAPTED_SDXL,
    CONTROLLED,
    CONTROLLED_SDXL,
    UNION_SDXL,
    AdaptedUNet,
    ControlledUNet,
)
from latentjac.models.adapters.controlnet_xs import XS, XS_SDXL
from latentjac.models.adapters.deepfloyd import DEEPFLOYD
from latentjac.models.adapters.dit import DIT
from latentjac.models.adapters.dreamlite import DREAMLITE
from latentjac.models.adapters.ernie_image import ERNIE_IMAGE, BatchedErnie
from latentjac.models.adapters.family import BY_HAND, Call, Encoder, Family
from latentjac.models.adapters.fibo2 import FIBO2
from latentjac.models.adapters.flux import FLUX, FLUX_CONTROL, FLUX_FILL, FLUX_KONTEXT, FLUX_SCHNELL
from latentjac.models.adapters.flux2 import FLUX2, FLUX2_KLEIN, FLUX2_KLEIN_INPAINT, FLUX2_KLEIN_KV
from latentjac.models.adapters.hidream import HIDREAM, MixedHiDream
from latentjac.models.adapters.hunyuan_dit import HUNYUAN_DIT
from latentjac.models.adapters.hunyuan_image import HUNYUAN_IMAGE, WholeTextHunyuan
from latentjac.models.adapters.hunyuan_video import HUNYUAN_VIDEO, HUNYUAN_VIDEO_PLAIN
from latentjac.models.adapters.kandinsky import KANDINSKY, KANDINSKY_21, KANDINSKY_21_INPAINT, KANDINSKY_INPAINT
from latentjac.models.adapters.kandinsky3 import KANDINSKY_3
from latentjac.models.adapters.kandinsky5 import KANDINSKY_5, KANDINSKY_5_EDIT, SmoothKandinsky5
from latentjac.models.adapters.krea2 import KREA2
from latentjac.models.adapters.longcat_image import LONGCAT_IMAGE
from latentjac.models.adapters.ltx import LTX
from latentjac.models.adapters.lumina import LUMINA
from latentjac.models.adapters.lumina2 import LUMINA2, MaskedLumina2
from latentjac.models.adapters.marigold import MARIGOLD
from latentjac.models.adapters.nucleus import NUCLEUS, MixedNucleus
from latentjac.models.adapters.other_texts import ALT_DIFFUSION, LATENT_DIFFUSION
from latentjac.models.adapters.ovis_image import OVIS_IMAGE
from latentjac.models.adapters.pixart import PIXART, PIXART_SIZED
from latentjac.models.adapters.pixel_unet import LARGER, PIXEL_UNET
from latentjac.models.adapters.prx import PRX
from latentjac.models.adapters.qwen_image import QWEN_IMAGE
from latentjac.models.adapters.qwen_image_edit import QWEN_IMAGE_EDIT, QWEN_IMAGE_EDIT_PLUS
from latentjac.models.adapters.sana import SANA, SANA_SPRINT
from latentjac.models.adapters.sd3 import SD3
from latentjac.models.adapters.sdxl import SDXL, SDXL_REFINER
from latentjac.models.adapters.stable_audio import STABLE_AUDIO
from latentjac.models.adapters.text_unet import TEXT_UNET
from latentjac.models.adapters.unclip import PAINTING, UNCLIP, VARIATION
from latentjac.models.adapters.upscaling import DEEPFLOYD_UPSCALED, DEPTH, UPSCALED
from latentjac.models.adapters.wan import WAN, WAN_STAGED, StagedWan
from latentjac.models.adapters.z_image import Z_IMAGE

# What `load` knows; of several that suit a network the first is taken.
FAMILIES = (
    UNION_SDXL, CONTROLLED_FLUX, CONTROLLED_SD3, CONTROLLED_QWEN_IMAGE, COMPLETED_Z_IMAGE, CONTROLLED_Z_IMAGE,
    CONTROLLED_SANA, CONTROLLED_HUNYUAN_DIT, FLUX_CONTROL, FLUX_FILL, FLUX_KONTEXT, COG_VIEW4_CONTROL,
    FLUX2_KLEIN_INPAINT, FLUX2_KLEIN_KV, KANDINSKY_INPAINT, KANDINSKY_21_INPAINT, MARIGOLD, LARGER,
    QWEN_IMAGE_EDIT_PLUS, QWEN_IMAGE_EDIT, FIBO_EDIT, PAINTING,
    PIXEL_UNET, CLASS_UNET, AUDIO_LDM, KANDINSKY, KANDINSKY_21, DEEPFLOYD_UPSCALED, DEEPFLOYD, UPSCALED, UNCLIP, DEPTH,
    CONTROLLED, CONTROLLED_SDXL, ADAPTED, ADAPTED_SDXL, TEXT_UNET, SDXL, SDXL_REFINER, VARIATION, DIT, PIXART,
    PIXART_SIZED, SD3, FLUX, FLUX_SCHNELL, SANA, SANA_SPRINT, AURA_FLOW, HUNYUAN_DIT, COG_VIEW4, QWEN_IMAGE, Z_IMAGE,
    LUMINA2, CHROMA, COG_VIEW3, FLUX2, FLUX2_KLEIN,
    XS, XS_SDXL, HIDREAM, NUCLEUS, FIBO2, OVIS_IMAGE, LONGCAT_IMAGE, BRIA, FIBO, KREA2, ERNIE_IMAGE, PRX, LUMINA,
    HUNYUAN_IMAGE, KANDINSKY_3, KANDINSKY_5_EDIT, KANDINSKY_5, ALT_DIFFUSION, LATENT_DIFFUSION, DREAMLITE,
    WAN_STAGED, WAN, LTX, COGVIDEOX, HUNYUAN_VIDEO, HUNYUAN_VIDEO_PLAIN, ANIMATEDIFF, ANIMATEDIFF_XL,
    STABLE_AUDIO, AUDIO_LDM_2,
)  # fmt: skip
# Of networks that had one class before diffusers 0.30, and have one each since: by the kind of their norm.
_NEW_CLASSES = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
# What pipelines call their networks.
NETWORK_PARTS = tuple(dict.fromkeys(family.part for family in FAMILIES))
# What they call all parts that a model can be made of, but for autoencoder and scheduler.
PART_NAMES = tuple(dict.fromkeys(name for f in FAMILIES for name in (f.part, *f.beside, *f.requires, *f.allows)))


def family_of(network: Any) -> Family | None:
    """The family of a network by its class and configuration; None for others."""
    return next((family for family in FAMILIES if family.is_of(network)), None)


def name_of(family: Family) -> str | None:
    """What a family is called here, such as ``"SD3"``; None for one of somebody else."""
    return next((name for name, value in globals().items() if value is family), None)


def class_now(kind: str, config: Mapping[str, Any]) -> str:
    """What diffusers calls the class of a network of a file today."""
    return _NEW_CLASSES.get(str(config.get("norm_type")), kind) if kind == "Transformer2DModel" else kind


__all__ = [
    "ADAPTED",
    "ADAPTED_SDXL",
    "ALT_DIFFUSION",
    "ANIMATEDIFF",
    "ANIMATEDIFF_XL",
    "AUDIO_LDM",
    "AUDIO_LDM_2",
    "AURA_FLOW",
    "BRIA",
    "BY_HAND",
    "CHROMA",
    "CLASS_UNET",
    "COGVIDEOX",
    "COG_VIEW3",
    "COG_VIEW4",
    "COG_VIEW4_CONTROL",
    "COMPLETED_Z_IMAGE",
    "CONTROLLED",
    "CONTROLLED_FLUX",
    "CONTROLLED_HUNYUAN_DIT",
    "CONTROLLED_QWEN_IMAGE",
    "CONTROLLED_SANA",
    "CONTROLLED_SD3",
    "CONTROLLED_SDXL",
    "CONTROLLED_Z_IMAGE",
    "DEEPFLOYD",
    "DEEPFLOYD_UPSCALED",
    "DEPTH",
    "DIT",
    "DREAMLITE",
    "ERNIE_IMAGE",
    "FAMILIES",
    "FIBO",
    "FIBO2",
    "FIBO_EDIT",
    "FLUX",
    "FLUX2",
    "FLUX2_KLEIN",
    "FLUX2_KLEIN_INPAINT",
    "FLUX2_KLEIN_KV",
    "FLUX_CONTROL",
    "FLUX_FILL",
    "FLUX_KONTEXT",
    "FLUX_SCHNELL",
    "HIDREAM",
    "HUNYUAN_DIT",
    "HUNYUAN_IMAGE",
    "HUNYUAN_VIDEO",
    "HUNYUAN_VIDEO_PLAIN",
    "KANDINSKY",
    "KANDINSKY_3",
    "KANDINSKY_5",
    "KANDINSKY_5_EDIT",
    "KANDINSKY_21",
    "KANDINSKY_21_INPAINT",
    "KANDINSKY_INPAINT",
    "KREA2",
    "LARGER",
    "LATENT_DIFFUSION",
    "LONGCAT_IMAGE",
    "LTX",
    "LUMINA",
    "LUMINA2",
    "MARIGOLD",
    "NETWORK_PARTS",
    "NUCLEUS",
    "OVIS_IMAGE",
    "PAINTING",
    "PART_NAMES",
    "PIXART",
    "PIXART_SIZED",
    "PIXEL_UNET",
    "PRX",
    "QWEN_IMAGE",
    "QWEN_IMAGE_EDIT",
    "QWEN_IMAGE_EDIT_PLUS",
    "SANA",
    "SANA_SPRINT",
    "SD3",
    "SDXL",
    "SDXL_REFINER",
    "STABLE_AUDIO",
    "TEXT_UNET",
    "UNCLIP",
    "UNION_SDXL",
    "UPSCALED",
    "VARIATION",
    "WAN",
    "WAN_STAGED",
    "XS",
    "XS_SDXL",
    "Z_IMAGE",
    "AdaptedUNet",
    "BatchedErnie",
    "Call",
    "ControlledTransformer",
    "ControlledUNet",
    "Encoder",
    "Family",
    "MaskedLumina2",
    "MixedHiDream",
    "MixedNucleus",
    "SmoothKandinsky5",
    "StagedWan",
    "WholeTextHunyuan",
    "class_now",
    "family_of",
    "name_of",
]
