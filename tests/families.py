"""A small pipeline of every family, one row each: how it is built, what it is given, and how diffusers is called.

A new family of ``latentjac.models.adapters`` is a row in ``SMALL``; ``family_checks.py`` does the rest, and
``benchmarks/check_families.py`` writes what it finds into docs/families.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import image_transformers
import other_text_unets
import packed_transformers
import torch
import video_pipelines
from controlled_pipelines import (
    build_cached_flux2,
    build_controlled_flux,
    build_controlled_hunyuan_dit,
    build_controlled_qwen_image,
    build_controlled_sana,
    build_controlled_sd3,
    build_controlled_z_image,
    build_kandinsky_5_edit,
    build_qwen_image_edit,
    build_seeing_cog_view4,
    build_seeing_flux,
)
from networks import build_scheduler, build_tiny_unet, randomize
from pictured_pipelines import (
    build_deepfloyd,
    build_depth,
    build_kandinsky,
    build_kandinsky_21,
    build_kandinsky_inpaint,
    build_marigold,
    build_painting,
    build_unclip,
    build_upscale,
    build_variation,
)
from PIL import Image
from pipelines import (
    TOKENS,
    build_adapted,
    build_controlled,
    build_dit,
    build_flux,
    build_latent_diffusion,
    build_pixart,
    build_prompted,
    build_sdxl,
    build_stable_diffusion,
    build_stable_diffusion_3,
    build_union,
)
from small_pipeline import SCALE, SIDE, Called, Small, nothing
from sound_pipelines import build_stable_audio

import latentjac
from latentjac.models import adapters
from latentjac.models.adapters import FAMILIES, Family, flux

PICTURE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
MASK = torch.zeros(SIDE, SIDE, dtype=torch.bool)
MASK[4:12, 2:10] = True
EVERYWHERE = torch.ones(64, 64, dtype=torch.bool)
LOW = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LARGER, LARGEST = (
    torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) for side in (32, 64)
)  # pictures
DEPTH = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
OWN, AWAY = torch.rand(2, 1, 12, generator=torch.Generator().manual_seed(3))
PHOTO = Image.fromarray((PICTURE[0].movedim(0, -1).numpy() * 255).astype("uint8"))
SCENE = Image.fromarray((LARGEST[0].movedim(0, -1).numpy() * 255).astype("uint8"))
LEFT = PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
# How a page writes what `Model.conditioning` is given here.
SHOWN = {
    "image": '"photo.jpg"',
    "control": '"photo.jpg"',
    "mask": '"mouth.png"',
    "image_prompt": '"photo.jpg"',
    "image_embedding": "own",
    "negative_image_embedding": "away",
}


def text_unet(
    family: str, kind: str, build: Callable[..., Any] = build_stable_diffusion, *, of: Any = None, **more: Any
) -> Small:
    """A row of a pipeline class of U-Nets with text; weights so large that all that the network gets matters.

    Args:
        family: Of the row.
        kind: Class of the pipeline.
        build: Of ``pipelines.py``.
        of: Options of build.
        **more: Of the row.
    """

    def made(folder: Path) -> Any:
        pipeline = build(folder, getattr(diffusers, kind), **(of or {}))
        randomize(pipeline.unet).float()
        return pipeline

    return Small(family, made, **more)


def latent_diffusion(folder: Path, **options: Any) -> Any:
    pipeline = build_latent_diffusion(**options)
    randomize(pipeline.unet).float()
    return pipeline


def inpainted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Latents of the picture without its masked part: the pipeline would draw them from the posterior."""
    seen = model.codec.encode(torch.where(MASK, 0.5, PICTURE))
    return {"image": PICTURE, "mask_image": MASK[None, None].float(), "masked_image_latents": seen, "strength": 1.0}


def pictured(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "image_guidance_scale": 1.0}


def refined(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """From the noise as it is, all the way."""
    return {"image": noise, "denoising_start": 0.001}


def classed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"class_labels": [3]}


def packed(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"latents": flux.packed(noise), "max_sequence_length": 512}


def short(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """As many tokens as there are, and pictures of any size."""
    own = {"height": model.codec.size[0], "width": model.codec.size[1]}
    return {"max_sequence_length": TOKENS, "use_resolution_binning": False, "clean_caption": False, **own}


def told(build: Callable[..., Any], family: str, **more: Any) -> Small:
    """A row of U-Nets that are told a picture; weights so large that all that the network gets matters.

    Args:
        build: Of ``pictured_pipelines.py``.
        family: Of the row.
        **more: Of the row.
    """

    def made(folder: Path) -> Any:
        pipeline = build(folder)
        randomize(pipeline.unet).float()
        return pipeline

    return Small(family, made, **more)


def flow(family: str, build: Callable[[], Any], called: Called = nothing, **more: Any) -> Small:
    """A row of transformers whose builders need no folder."""
    return Small(family, lambda folder: build(), called=called, **more)


def unbinned(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Pictures of any size."""
    return {"use_resolution_binning": False}


def folded(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Latents as packed tokens, with what is led away from for pipelines that guide only then."""
    own = {"guidance_scale": None, "true_cfg_scale": SCALE}
    return {"latents": flux.packed(noise), "negative_prompt": "", **own}


def tokens(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"latents": flux.packed(noise)}


def depth(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "depth_map": DEPTH[0], "strength": 1.0}


def upscaled(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """A picture with the noise that a model draws by default."""
    return {"image": LOW * 2 - 1, "noise_level": 10, "generator": torch.Generator().manual_seed(0)}


def unclip(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PHOTO, "noise_level": 100, "generator": torch.Generator().manual_seed(0)}


def embedded(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image_embeds": OWN, "negative_image_embeds": AWAY}


def unscaled(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Noise of deviation 1, which the pipeline scales."""
    return {"latents": noise / model.scheduler.init_noise_sigma}


def repainted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """A picture of which nothing is kept: what is kept the pipeline would put into samples at each step."""
    given = {"image": LARGEST * 2 - 1, "mask_image": torch.ones(1, 1, 64, 64)}
    return {**embedded(model, noise), **given}


def painted(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"example_image": LEFT, "image": SIGNED, "mask_image": MASK[None, None].float()}


def mapped(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {"image": PICTURE, "processing_resolution": 0, "generator": None}


def shown_to(called: Called = nothing, **more: Any) -> Called:
    """What pipelines with ControlNets of transformers are called with, beside what the row without is."""
    return lambda model, noise: {**called(model, noise), "control_image": SIGNED, **more}


def scaled_less(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Guidance that the pipeline counts from 0 on; its ControlNets are weaker by default."""
    return {"guidance_scale": SCALE - 1, "controlnet_conditioning_scale": 1.0}


SIGNED = PICTURE * 2 - 1  # as pipelines have pictures that are tensors
SEEN = {"control": PICTURE}
HOLE = {"image": PICTURE, "mask": MASK}
CONTROL = {"given": {"control": PICTURE}, "called": pictured}
TOLD = {"image_embedding": OWN, "negative_image_embedding": AWAY}
SMALL: dict[str, Small] = {
    "ddpm": Small(
        "PIXEL_UNET",
        lambda folder: diffusers.DDIMPipeline(randomize(build_tiny_unet(size=8)).float(), build_scheduler()),
        prompt=None,
        scale=1.0,
    ),
    "latent-diffusion": Small("PIXEL_UNET", latent_diffusion, prompt=None, scale=1.0),
    "classes": Small(
        "CLASS_UNET",
        lambda folder: randomize(build_tiny_unet(size=8, num_class_embeds=4)).float(),
        {"class_label": 3, "negative_class_label": 0},
        prompt=None,
    ),
    "stable-diffusion": text_unet("TEXT_UNET", "StableDiffusionPipeline"),
    "lcm": text_unet("TEXT_UNET", "StableDiffusionPipeline", of={"time_cond_proj_dim": 18}),
    "inpainting": text_unet(
        "TEXT_UNET",
        "StableDiffusionInpaintPipeline",
        of={"in_channels": 9},
        given={"image": PICTURE, "mask": MASK},
        called=inpainted,
    ),
    "pix2pix": text_unet(
        "TEXT_UNET",
        "StableDiffusionInstructPix2PixPipeline",
        of={"in_channels": 8},
        given={"image": PICTURE},
        called=pictured,
    ),
    "controlnet": text_unet("CONTROLLED", "StableDiffusionControlNetPipeline", build_controlled, **CONTROL),
    "sdxl": text_unet("SDXL", "StableDiffusionXLPipeline", build_sdxl),
    "sdxl-refiner": text_unet(
        "SDXL_REFINER", "StableDiffusionXLImg2ImgPipeline", build_sdxl, of={"refiner": True}, called=refined
    ),
    "sdxl-controlnet": text_unet("CONTROLLED_SDXL", "StableDiffusionXLControlNetPipeline", build_controlled, **CONTROL),
    "sdxl-controlnet-union": text_unet(
        "UNION_SDXL",
        "StableDiffusionXLControlNetUnionPipeline",
        build_union,
        given={"control": PICTURE, "control_mode": 1},
        called=lambda model, noise: {"control_image": [PICTURE], "control_mode": [1]},
    ),
    "super-resolution": Small(
        "LARGER",
        partial(latent_diffusion, kind=diffusers.LDMSuperResolutionPipeline, in_channels=6),
        {"image": LOW},
        lambda model, noise: {"image": LOW * 2 - 1},
        prompt=None,
        scale=1.0,
    ),
    "dit": Small("DIT", lambda folder: build_dit(), {"class_label": 3}, classed, prompt=None),
    "pixart": Small("PIXART", lambda folder: build_pixart(), called=short),
    "pixart-sized": Small("PIXART_SIZED", lambda folder: build_pixart(sized=True), called=short),
    "sd3": Small("SD3", build_stable_diffusion_3),
    "flux-dev": Small("FLUX", build_flux, called=packed, size=SIDE),
    "flux-schnell": Small(
        "FLUX_SCHNELL", lambda folder: build_flux(folder, distilled=False), called=packed, size=SIDE, scale=1.0
    ),
    "t2i-adapter": text_unet("ADAPTED", "StableDiffusionAdapterPipeline", build_adapted, **CONTROL),
    "sdxl-t2i-adapter": text_unet("ADAPTED_SDXL", "StableDiffusionXLAdapterPipeline", build_adapted, **CONTROL),
    "ip-adapter": text_unet(
        "TEXT_UNET",
        "StableDiffusionPipeline",
        build_prompted,
        given={"image_prompt": PHOTO},
        called=lambda model, noise: {"ip_adapter_image": PHOTO},
        opened='pipeline = diffusers.StableDiffusionPipeline.from_pretrained("owner/stable-diffusion")\n'
        'pipeline.load_ip_adapter("owner/ip-adapter", subfolder="models", weight_name="ip-adapter_sd15.safetensors")',
    ),
    "variation": told(
        build_variation,
        "VARIATION",
        given={"image_prompt": PHOTO},
        called=lambda model, noise: {"image": PHOTO},
        prompt=None,
    ),
    "unclip": told(build_unclip, "UNCLIP", given={"image_prompt": PHOTO, "noise_level": 100}, called=unclip),
    "upscaler": told(build_upscale, "UPSCALED", given={"image": LOW, "noise_level": 10}, called=upscaled),
    "depth": told(build_depth, "DEPTH", given={"control": DEPTH}, called=depth, begin="prepare_latents"),
    "kandinsky-2-2-decoder": told(build_kandinsky, "KANDINSKY", given=TOLD, called=embedded, prompt=None),
    "kandinsky-2-1": told(build_kandinsky_21, "KANDINSKY_21", given=TOLD, called=embedded, scale=1.5),
    "paint-by-example": told(
        build_painting,
        "PAINTING",
        given={"image_prompt": LEFT, "image": PICTURE, "mask": MASK},
        called=painted,
        prompt=None,
    ),
    "kandinsky-2-2-inpainting": told(
        build_kandinsky_inpaint,
        "KANDINSKY_INPAINT",
        given={**TOLD, "image": LARGEST, "mask": EVERYWHERE},
        called=repainted,
        prompt=None,
    ),
    "kandinsky-2-1-inpainting": told(
        partial(build_kandinsky_21, masked=True),
        "KANDINSKY_21_INPAINT",
        given={**TOLD, "image": LARGEST, "mask": EVERYWHERE},
        called=repainted,
        scale=1.5,
    ),
    "marigold-depth": told(build_marigold, "MARIGOLD", given={"image": PICTURE}, called=mapped, prompt=None, scale=1.0),
    "deepfloyd": told(build_deepfloyd, "DEEPFLOYD", begin="prepare_intermediate_images"),
    "deepfloyd-upscaler": told(
        partial(build_deepfloyd, upscaled=True),
        "DEEPFLOYD_UPSCALED",
        given={"image": LOW, "noise_level": 10},
        called=upscaled,
        begin="prepare_intermediate_images",
    ),
    "sana": flow("SANA", image_transformers.build_sana, unbinned, tol=1e-5),
    "aura-flow": flow("AURA_FLOW", image_transformers.build_aura_flow, tol=1e-5),
    "hunyuan-dit": flow("HUNYUAN_DIT", image_transformers.build_hunyuan_dit, unbinned),
    "lumina-2": flow("LUMINA2", image_transformers.build_lumina2, tol=1e-5),
    "z-image": flow(
        "Z_IMAGE", image_transformers.build_z_image, lambda model, noise: {"guidance_scale": SCALE - 1}, size=SIDE
    ),
    "cogview-3": flow("COG_VIEW3", image_transformers.build_cog_view3),
    "cogview-4": flow("COG_VIEW4", image_transformers.build_cog_view4),
    "qwen-image": flow("QWEN_IMAGE", image_transformers.build_qwen_image, folded, size=SIDE),
    "chroma": flow("CHROMA", image_transformers.build_chroma, tokens, size=SIDE),
    "flux-2-dev": flow("FLUX2", partial(image_transformers.build_flux2, large=True), size=SIDE),
    "flux-2-klein": flow("FLUX2_KLEIN", image_transformers.build_flux2, size=SIDE),
    "flux-controlnet": Small("CONTROLLED_FLUX", build_controlled_flux, SEEN, shown_to(packed), size=SIDE),
    "flux-controlnet-union": Small(
        "CONTROLLED_FLUX",
        partial(build_controlled_flux, num_mode=3),
        {**SEEN, "control_mode": 2},
        shown_to(packed, control_mode=2),
        size=SIDE,
    ),
    "flux-controlnet-pixels": Small(
        "CONTROLLED_FLUX",
        partial(build_controlled_flux, conditioning_embedding_channels=4, patch_size=2),
        {"control": LARGEST},
        shown_to(packed, control_image=LARGEST * 2 - 1),
        size=64,
    ),
    "flux-control": Small(
        "FLUX_CONTROL",
        partial(build_seeing_flux, kind=diffusers.FluxControlPipeline, in_channels=32, out_channels=16),
        SEEN,
        shown_to(packed),
        size=SIDE,
    ),
    "flux-fill": Small(
        "FLUX_FILL",
        partial(build_seeing_flux, kind=diffusers.FluxFillPipeline, in_channels=48, out_channels=16),
        HOLE,
        lambda model, noise: {**packed(model, noise), "image": SIGNED, "mask_image": MASK[None, None].float()},
        size=SIDE,
    ),
    "flux-kontext": Small(
        "FLUX_KONTEXT",
        partial(build_seeing_flux, kind=diffusers.FluxKontextPipeline),
        {"image": PICTURE},
        lambda model, noise: {**packed(model, noise), "image": SIGNED, "_auto_resize": False, "max_area": SIDE**2},
        size=SIDE,
    ),
    "cogview-4-control": flow("COG_VIEW4_CONTROL", build_seeing_cog_view4, shown_to(), given=SEEN),
    "sd3-controlnet": Small("CONTROLLED_SD3", build_controlled_sd3, SEEN, shown_to()),
    "sd3-controlnet-inpainting": Small(
        "CONTROLLED_SD3",
        partial(
            build_controlled_sd3,
            kind=diffusers.StableDiffusion3ControlNetInpaintingPipeline,
            extra_conditioning_channels=1,
        ),
        HOLE,
        shown_to(control_mask=MASK[None, None].float()),
    ),
    "qwen-image-controlnet": flow(
        "CONTROLLED_QWEN_IMAGE", build_controlled_qwen_image, shown_to(folded), given=SEEN, size=SIDE
    ),
    "qwen-image-edit": flow(
        "QWEN_IMAGE_EDIT",
        build_qwen_image_edit,
        lambda model, noise: {**folded(model, noise), "image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "qwen-image-edit-plus": flow(
        "QWEN_IMAGE_EDIT_PLUS",
        partial(build_qwen_image_edit, diffusers.QwenImageEditPlusPipeline),
        lambda model, noise: {**folded(model, noise), "image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "qwen-image-controlnet-inpainting": flow(
        "CONTROLLED_QWEN_IMAGE",
        partial(
            build_controlled_qwen_image, kind=diffusers.QwenImageControlNetInpaintPipeline, extra_condition_channels=4
        ),
        shown_to(folded, control_mask=MASK[None, None].float()),
        given=HOLE,
        size=SIDE,
    ),
    "z-image-controlnet": flow(
        "CONTROLLED_Z_IMAGE", build_controlled_z_image, shown_to(scaled_less), given=SEEN, size=SIDE
    ),
    "z-image-controlnet-inpainting": flow(
        "COMPLETED_Z_IMAGE",
        partial(build_controlled_z_image, kind=diffusers.ZImageControlNetInpaintPipeline, control_in_dim=9),
        shown_to(scaled_less, image=SIGNED, mask_image=MASK[None, None].float()),
        given={**SEEN, **HOLE},
        size=SIDE,
    ),
    "sana-controlnet": flow(
        "CONTROLLED_SANA",
        build_controlled_sana,
        shown_to(unbinned, control_image=LARGER * 2 - 1),
        given={"control": LARGER},
        tol=1e-5,
    ),
    "hunyuan-dit-controlnet": flow(
        "CONTROLLED_HUNYUAN_DIT",
        build_controlled_hunyuan_dit,
        shown_to(unbinned, control_image=LARGEST * 2 - 1),
        given={"control": LARGEST},
    ),
    "flux-2-klein-inpainting": flow(
        "FLUX2_KLEIN_INPAINT",
        partial(image_transformers.build_flux2, diffusers.Flux2KleinInpaintPipeline),
        lambda model, noise: {"image": PHOTO, "mask_image": torch.ones(1, 1, SIDE, SIDE), "strength": 1.0},
        given={"image": PHOTO},
        size=SIDE,
    ),
    "flux-2-klein-kv": flow(
        "FLUX2_KLEIN_KV",
        build_cached_flux2,
        lambda model, noise: {"image": PHOTO},
        given={"image": PHOTO},
        size=SIDE,
        scale=1.0,
    ),
    "ovis-image": flow("OVIS_IMAGE", packed_transformers.build_ovis_image, tokens, size=SIDE),
    "longcat-image": flow(
        "LONGCAT_IMAGE",
        packed_transformers.build_longcat_image,
        lambda model, noise: {"latents": flux.packed(noise), "enable_prompt_rewrite": False},
        size=SIDE,
    ),
    "bria": flow("BRIA", packed_transformers.build_bria, tokens, size=SIDE),
    "bria-fibo": flow(
        "FIBO",
        packed_transformers.build_fibo,
        lambda model, noise: {"latents": noise.flatten(2).transpose(1, 2), "height": 128, "width": 128},
        size=SIDE,
    ),
    "bria-fibo-edit": flow(
        "FIBO_EDIT",
        partial(packed_transformers.build_fibo, diffusers.BriaFiboEditPipeline),
        lambda model, noise: {
            "latents": noise.flatten(2).transpose(1, 2),
            "image": PHOTO,
            "height": 128,
            "width": 128,
        },
        given={"image": PHOTO},
        size=SIDE,
        prompt='{"edit_instruction": "a red cat"}',
    ),
    "krea-2": flow(
        "KREA2",
        packed_transformers.build_krea2,
        lambda model, noise: {"latents": flux.packed(noise), "guidance_scale": SCALE - 1},
        size=SIDE,
        tol=1e-5,
    ),
    "ernie-image": flow("ERNIE_IMAGE", packed_transformers.build_ernie_image, size=SIDE, tol=1e-5),
    "prx": flow("PRX", packed_transformers.build_prx, unbinned, size=SIDE),
    "lumina": flow("LUMINA", packed_transformers.build_lumina, size=(64, 128)),
    "hunyuan-image": flow(
        "HUNYUAN_IMAGE", packed_transformers.build_hunyuan_image, size=SIDE, prompt="a 'red' cat", tol=1e-5
    ),
    "kandinsky-3": flow(
        "KANDINSKY_3",
        other_text_unets.build_kandinsky_3,
        lambda model, noise: {"guidance_scale": SCALE - 1},
        size=64,
    ),
    "kandinsky-5": flow(
        "KANDINSKY_5",
        packed_transformers.build_kandinsky_5,
        lambda model, noise: {"latents": noise.movedim(1, 3)[:, None]},
        size=64,
        tol=1e-5,
    ),
    "kandinsky-5-edit": flow(
        "KANDINSKY_5_EDIT",
        build_kandinsky_5_edit,
        lambda model, noise: {"latents": noise.movedim(1, 3)[:, None], "image": SCENE},
        given={"image": SCENE},
        size=64,
        tol=1e-5,
    ),
    "alt-diffusion": told(other_text_unets.build_alt_diffusion, "ALT_DIFFUSION"),
    "latent-diffusion-text": told(lambda folder: other_text_unets.build_latent_diffusion_text(), "LATENT_DIFFUSION"),
    "dreamlite": flow("DREAMLITE", other_text_unets.build_dreamlite, size=SIDE, begin="prepare_latents"),
    "hidream": flow("HIDREAM", packed_transformers.build_hidream, size=SIDE, tol=1e-5),
    "bria-fibo-2": flow(
        "FIBO2",
        packed_transformers.build_fibo_2,
        lambda model, noise: {"latents": torch.nn.functional.pixel_shuffle(noise, 2)},
        size=SIDE,
        tol=1e-5,
    ),
    "nucleus-image": flow("NUCLEUS", packed_transformers.build_nucleus, tokens, size=SIDE, tol=1e-5),
    "controlnet-xs": text_unet(
        "XS", "StableDiffusionControlNetXSPipeline", other_text_unets.build_controlled_xs, **CONTROL
    ),
    "sdxl-controlnet-xs": text_unet(
        "XS_SDXL", "StableDiffusionXLControlNetXSPipeline", other_text_unets.build_controlled_xs, **CONTROL
    ),
    "wan": flow("WAN", video_pipelines.build_wan, size=(16, 32), frames=5, tol=1e-5),
    "ltx": flow(
        "LTX",
        video_pipelines.build_ltx,
        lambda model, noise: {"latents": noise.flatten(2).transpose(1, 2)},
        size=(32, 32),
        frames=5,
    ),
    "cogvideox": flow(
        "COGVIDEOX",
        video_pipelines.build_cogvideox,
        lambda model, noise: {"latents": noise.transpose(1, 2)},
        size=(8, 16),
        frames=9,
    ),
    "stable-audio": flow("STABLE_AUDIO", build_stable_audio, unscaled),
}


def name_of(family: Family) -> str:
    """What ``latentjac.models.adapters`` calls a family."""
    return next(name for name, value in vars(adapters).items() if value is family)


def uncovered() -> set[str]:
    """Names of families without a row."""
    return {name_of(family) for family in FAMILIES} - {row.family for row in SMALL.values()}


def example(name: str, *, folder: bool) -> str:
    """Lines for docs/families.md: from a hub id or, where folders are not read, from a pipeline, to an edit.

    Args:
        name: Of a row.
        folder: Whether a folder of such a pipeline is read.
    """
    row = SMALL[name]
    source = f'"owner/{name}"' if folder else f'diffusers.DiffusionPipeline.from_pretrained("owner/{name}")'
    given = {key: SHOWN.get(key, repr(value)) for key, value in row.given.items()}
    if row.prompt is not None:
        given = {"prompt": json.dumps(row.prompt), **given}
    if row.scale != 1:
        given["guidance_scale"] = repr(row.scale)
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    under = f"conditioning=model.conditioning({arguments})" if given else ""
    is_sound = getattr(adapters, row.family).media == "sound"
    return "\n".join(
        [
            *([row.opened] if row.opened else []),
            f"model = latentjac.load({'pipeline' if row.opened else source})",
            f"point = latentjac.noise_point(model{', ' if under else ''}{under})",
            "basis = latentjac.local_basis(model, point, k=2, tol=0.1)",
            "edit = latentjac.edit(model, point, basis.v[0], distance=(-2, 2))",
            'waves = latentjac.diffusion.render(model, edit.samples[0], "np")'
            if is_sound
            else 'edit.images[0].save("left.png")',
        ]
    )
