"""Small pipelines of transformers with ControlNets, of random weights."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
from image_transformers import (
    build_coarse_autoencoder,
    build_cog_view4,
    build_flux2,
    build_hunyuan_dit,
    build_qwen_image,
    build_sana,
    build_z_image,
    spread,
)
from packed_transformers import build_kandinsky_5
from pipelines import build_flux, build_stable_diffusion_3


def certain(autoencoder: Any) -> Any:
    """With a posterior of (nearly) no deviation: pipelines draw what networks see from it, where we take its mode."""
    quant = autoencoder.quant_conv
    half = len(quant.bias) // 2
    with torch.no_grad():
        quant.weight[half:] = 0
        quant.bias[half:] = -30
    return autoencoder


def with_controlnet(pipeline: Any, kind: Any, nets: Any) -> Any:
    """The parts of a pipeline in another, with one ControlNet or a list of them, whose features count."""
    for i, net in enumerate(nets if isinstance(nets, list) else [nets]):
        torch.manual_seed(20 + i)
        spread(net)
    parts = {name: part for name, part in pipeline.components.items() if name in kind._get_init_keys(kind)}
    return kind(**parts, controlnet=nets)


def build_controlled_flux(
    folder: Path, kind: Any = diffusers.FluxControlNetPipeline, *, count: int = 1, **options: Any
) -> Any:
    """ControlNets of one joint and one single block; options are theirs."""
    usual = {
        "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
        "joint_attention_dim": 16, "pooled_projection_dim": 16, "guidance_embeds": True, "axes_dims_rope": (2, 2, 4),
    }  # fmt: skip
    pipeline = build_flux(folder)
    if "conditioning_embedding_channels" in options:  # which makes one of 8 pixels
        pipeline.vae = build_coarse_autoencoder()
        pipeline.vae.register_to_config(shift_factor=0.1)
    certain(pipeline.vae)
    nets = [diffusers.FluxControlNetModel(**{**usual, **options}) for _ in range(count)]
    return with_controlnet(pipeline, kind, nets[0] if count == 1 else nets)


def build_seeing_flux(folder: Path, kind: Any, **options: Any) -> Any:
    """One that gets a picture itself; options are of the transformer."""
    pipeline = build_flux(folder, kind, **options)
    spread(pipeline.transformer)
    certain(pipeline.vae)
    return pipeline


def build_controlled_sd3(
    folder: Path, kind: Any = diffusers.StableDiffusion3ControlNetPipeline, *, count: int = 1, **options: Any
) -> Any:
    """ControlNets of two blocks; options are theirs."""
    usual = {
        "sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 8,
        "num_attention_heads": 2, "joint_attention_dim": 32, "caption_projection_dim": 16, "pooled_projection_dim": 32,
        "out_channels": 4, "pos_embed_max_size": 8,
    }  # fmt: skip
    pipeline = build_stable_diffusion_3(folder)
    certain(pipeline.vae)
    nets = [diffusers.SD3ControlNetModel(**{**usual, **options}) for _ in range(count)]
    return with_controlnet(pipeline, kind, nets[0] if count == 1 else nets)


def build_controlled_qwen_image(kind: Any = diffusers.QwenImageControlNetPipeline, **options: Any) -> Any:
    """A ControlNet of one block; options are its."""
    pipeline = build_qwen_image()
    certain(pipeline.vae)
    net = diffusers.QwenImageControlNetModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 2, 2), **options,
    )  # fmt: skip
    return with_controlnet(pipeline, kind, net)


def build_controlled_z_image(kind: Any = diffusers.ZImageControlNetPipeline, **options: Any) -> Any:
    """A ControlNet of two blocks, which changes a refiner, too; options are its."""
    usual = {
        "control_layers_places": [0, 1], "control_refiner_layers_places": [0], "control_in_dim": 4,
        "add_control_noise_refiner": "control_noise_refiner", "dim": 16, "n_refiner_layers": 1, "n_heads": 2,
        "n_kv_heads": 2,
    }  # fmt: skip
    return with_controlnet(build_z_image(), kind, diffusers.ZImageControlNetModel(**{**usual, **options}))


def build_controlled_sana(kind: Any = diffusers.SanaControlNetPipeline) -> Any:
    net = diffusers.SanaControlNetModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=4,
    )  # fmt: skip
    return with_controlnet(build_sana(), kind, net)


def build_controlled_hunyuan_dit(kind: Any = diffusers.HunyuanDiTControlNetPipeline) -> Any:
    """A ControlNet of one block."""
    pipeline = build_hunyuan_dit()
    certain(pipeline.vae)
    net = diffusers.HunyuanDiT2DControlNetModel(
        sample_size=8, transformer_num_layers=4, patch_size=2, attention_head_dim=8, num_attention_heads=2,
        mlp_ratio=2.0, cross_attention_dim=16, cross_attention_dim_t5=16, pooled_projection_dim=8, hidden_size=16,
        in_channels=4,
    )  # fmt: skip
    return with_controlnet(pipeline, kind, net)


def build_seeing_cog_view4() -> Any:
    """One that gets a picture itself."""
    pipeline = build_cog_view4(diffusers.CogView4ControlPipeline, in_channels=8)
    certain(pipeline.vae)
    return pipeline


def build_cached_flux2() -> Any:
    """One that takes pictures of less than 64x64, too."""
    pipeline = build_flux2(diffusers.Flux2KleinKVPipeline)
    pipeline.image_processor.check_image_input = lambda image: image
    return pipeline


def build_qwen_image_edit(kind: Any = diffusers.QwenImageEditPipeline, side: int = 16) -> Any:
    """One whose pictures have this side: its pipeline would make them of 1024x1024."""
    module = sys.modules[kind.__module__]
    real = module.calculate_dimensions

    def small(area: int, ratio: float) -> tuple[Any, ...]:
        found = real(area, ratio)
        return found if area < 2**20 else (side, side, *found[2:])

    def called(self: Any, *given: Any, **named: Any) -> Any:
        with mock.patch.object(module, "calculate_dimensions", small):
            return kind.__call__(self, *given, **named)

    return build_qwen_image(type(kind.__name__, (kind,), {"__call__": functools.wraps(kind.__call__)(called)}))


def build_kandinsky_5_edit() -> Any:
    """One that is given noise alone: its pipeline would take it for noise with the picture behind."""
    kind = diffusers.Kandinsky5I2IPipeline

    def prepared(self: Any, *, latents: torch.Tensor, **named: Any) -> torch.Tensor:
        whole = kind.prepare_latents(self, **named)
        whole[..., : latents.shape[-1]] = latents
        return whole

    pipeline = build_kandinsky_5(type(kind.__name__, (kind,), {"prepare_latents": prepared}), visual_cond=True)
    seeing = build_qwen_image(diffusers.QwenImageEditPipeline)
    pipeline.register_modules(text_encoder=seeing.text_encoder, tokenizer=seeing.processor)
    certain(pipeline.vae)
    return pipeline
