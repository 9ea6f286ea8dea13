"""Small pipelines of videos, of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MotionAdapter,
    WanPipeline,
    WanTransformer3DModel,
)
from image_transformers import build_decoder, build_words, spread
from packed_transformers import clip_text
from pipelines import build_sdxl, build_stable_diffusion, build_t5
from transformers import CLIPTextModel, LlamaConfig, LlamaModel, UMT5Config, UMT5EncoderModel


def build_wan_autoencoder() -> AutoencoderKLWan:
    """Videos of 5 frames of 16x32 as 4 channels of 2 frames of 4x8, with means and deviations of their own."""
    torch.manual_seed(3)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.1, 2.0],
        scale_factor_spatial=4,
    )


def build_wan(kind: Any = WanPipeline, **options: object) -> WanPipeline:
    """Three blocks on latents, whose text is of one token a letter."""
    tokenizer, _ = build_t5()
    torch.manual_seed(4)
    text = UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    encoder = UMT5EncoderModel(text).eval()
    settings = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 3,
        "rope_max_seq_len": 32,
    }
    network = WanTransformer3DModel(**{**settings, **options}).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    return kind(tokenizer, encoder, build_wan_autoencoder(), scheduler, transformer=network)


def build_staged_wan(blocks: int = 3, **options: object) -> WanPipeline:
    """One with a network of other weights, and other options, below three quarters of all timesteps."""
    pipeline = build_wan(num_layers=blocks)
    torch.manual_seed(5)
    other = WanTransformer3DModel(**{**pipeline.transformer.config, **options}).eval()
    pipeline.register_modules(transformer_2=other)
    pipeline.register_to_config(boundary_ratio=0.75)
    return pipeline


def build_ltx_autoencoder() -> AutoencoderKLLTXVideo:
    """Videos of 5 frames of 32x64 as 8 channels of 2 frames of 2x4, with means and deviations as weights."""
    torch.manual_seed(3)
    autoencoder = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
    )
    autoencoder.latents_mean.copy_(torch.linspace(-0.3, 0.4, 8))
    autoencoder.latents_std.copy_(torch.linspace(0.7, 1.4, 8))
    return autoencoder.eval()


def build_ltx(kind: Any = LTXPipeline) -> LTXPipeline:
    """Three blocks on latents; levels that shift with the number of tokens."""
    tokenizer, encoder = build_t5()
    torch.manual_seed(4)
    network = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=3,
        caption_channels=16,
    ).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=4, shift_terminal=0.1
    )
    return kind(scheduler, build_ltx_autoencoder(), encoder, tokenizer, network)


def build_cogvideox_autoencoder() -> AutoencoderKLCogVideoX:
    """Videos of 9 frames of 16x32 as 4 channels of 3 frames of 4x8."""
    torch.manual_seed(3)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
    ).eval()


def build_cogvideox(**options: object) -> CogVideoXPipeline:
    """Three blocks that text and video go through together; zero terminal SNR."""
    tokenizer, encoder = build_t5()
    torch.manual_seed(4)
    settings = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
        "num_layers": 3,
        "sample_width": 8,
        "sample_height": 4,
        "sample_frames": 9,
        "max_text_seq_length": 226,
    }
    network = CogVideoXTransformer3DModel(**{**settings, **options}).eval()
    scheduler = CogVideoXDDIMScheduler(
        snr_shift_scale=3.0, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        set_alpha_to_one=True, clip_sample=False,
    )  # fmt: skip
    return CogVideoXPipeline(tokenizer, encoder, build_cogvideox_autoencoder(), network, scheduler)


def build_hunyuan_video_autoencoder() -> AutoencoderKLHunyuanVideo:
    """Videos of 5 frames of 16x32 as 4 channels of 2 frames of 4x8."""
    torch.manual_seed(3)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 3,
        up_block_types=("HunyuanVideoUpBlock3D",) * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    ).eval()


def build_hunyuan_video(**options: object) -> HunyuanVideoPipeline:
    """A joint block and two single ones; the scale of guidance as an input."""
    torch.manual_seed(4)
    settings = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 1,
        "num_single_layers": 2,
        "num_refiner_layers": 1,
        "text_embed_dim": 16,
        "pooled_projection_dim": 16,
        "rope_axes_dim": (4, 4, 4),
    }
    network = spread(HunyuanVideoTransformer3DModel(**{**settings, **options}))
    words = build_words()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    llama = build_decoder(LlamaConfig, LlamaModel, num_hidden_layers=4)
    return HunyuanVideoPipeline(
        llama, words, network, build_hunyuan_video_autoencoder(), scheduler, CLIPTextModel(clip_text()).eval(), words
    )


def build_animatediff(folder: Path, kind: Any = AnimateDiffPipeline) -> Any:
    """Stable Diffusion 1 or XL with layers between frames; tokenizers' files come into the folder."""
    build = build_sdxl if kind is AnimateDiffSDXLPipeline else build_stable_diffusion
    parts = build(folder).components
    torch.manual_seed(6)
    adapter = MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2
    )
    known = {name: part for name, part in parts.items() if name in kind._get_signature_types()}
    pipeline = kind(**known, motion_adapter=adapter)
    spread(pipeline.unet)
    return pipeline
