"""Small pipelines of random weights whose U-Nets are told a text by other encoders than CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
)
from diffusers.models.controlnets.controlnet_xs import UNetControlNetXSModel
from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel
from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
    RobertaSeriesConfig,
    RobertaSeriesModelWithTransformation,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from image_transformers import WORDS, build_coarse_autoencoder, build_encoder, build_words, spread
from networks import build_text_unet
from packed_transformers import qwen3_vl
from pictured_pipelines import LATENT, build_movq, texts
from pipelines import LETTERS, TOKENS, build_latent_scheduler, build_sdxl, build_stable_diffusion
from transformers import Qwen3VLForConditionalGeneration, T5Config, T5EncoderModel, XLMRobertaTokenizer


def build_kandinsky_3() -> Kandinsky3Pipeline:
    """Two levels on latents of 8x8, of pictures of 64x64."""
    torch.manual_seed(31)
    network = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=16,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(8, 16),
        cross_attention_dim=8,
        encoder_hid_dim=16,
    )
    encoder = build_encoder(T5Config, T5EncoderModel)
    return Kandinsky3Pipeline(build_words(), encoder, spread(network), build_latent_scheduler(), build_movq())


def build_alt_diffusion(folder: Path) -> Any:
    """Stable Diffusion under a text of one token a letter of XLM-RoBERTa."""
    letters = [(letter, -3.0) for letter in ("\u2581", *LETTERS)]
    tokenizer = XLMRobertaTokenizer(
        vocab=[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *letters, ("<mask>", 0.0)],
        model_max_length=TOKENS,
    )
    torch.manual_seed(32)
    config = RobertaSeriesConfig(
        project_dim=16, vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=100,
    )  # fmt: skip
    encoder = RobertaSeriesModelWithTransformation(config).eval()
    parts = {**texts(folder), "text_encoder": encoder, "tokenizer": tokenizer}
    return diffusers.AltDiffusionPipeline(
        **parts, unet=build_text_unet(**LATENT), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def build_latent_diffusion_text() -> Any:
    """Latents of 8x8, of pictures of 64x64, under a text of the encoder that comes with them."""
    torch.manual_seed(33)
    config = LDMBertConfig(
        vocab_size=len(WORDS), encoder_layers=2, encoder_ffn_dim=24, encoder_attention_heads=2, head_dim=8, d_model=16
    )
    return diffusers.LDMTextToImagePipeline(
        build_coarse_autoencoder(), LDMBertModel(config).eval(), build_words(), build_text_unet(**LATENT),
        build_latent_scheduler(),
    )  # fmt: skip


def build_dreamlite() -> Any:
    """Two levels on latents of 8x8, which the pipeline widens to 8x16."""
    torch.manual_seed(34)
    network = DreamLiteUNetModel(
        sample_size=8,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteCrossAttnNoSelfAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
        encoder_hid_dim=16,
        encoder_hid_dim_type="text_proj_rms",
        addition_embed_type="time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16,
        ff_mult=2,
    )
    torch.manual_seed(35)
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    torch.manual_seed(36)
    encoder = Qwen3VLForConditionalGeneration(qwen3_vl()).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=1.16)
    return diffusers.DreamLitePipeline(encoder, build_words(), None, autoencoder.eval(), spread(network), scheduler)


def build_controlled_xs(folder: Path, kind: Any) -> Any:
    """Stable Diffusion, or that of XL by the class, with a ControlNet-XS in its U-Net."""
    large = "XL" in kind.__name__
    own = {"layers_per_block": 2, "use_linear_projection": True}
    plain = build_sdxl(folder, **own) if large else build_stable_diffusion(folder, **own)
    torch.manual_seed(37)
    beside = diffusers.ControlNetXSAdapter.from_unet(
        plain.unet, block_out_channels=[4, 4], num_attention_heads=[1, 1], conditioning_embedding_out_channels=(4, 4)
    )
    # As a folder has it: made of two networks it has other attributes, which mean nothing.
    whole = UNetControlNetXSModel.from_config(UNetControlNetXSModel.from_unet(plain.unet, beside).config).eval()
    parts = {**plain.components, "controlnet": beside, "unet": whole}
    parts.pop("image_encoder", None)
    return kind(**parts, **({"add_watermarker": False} if large else {"requires_safety_checker": False}))
