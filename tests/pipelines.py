"""Small pipelines with an autoencoder, and with text, of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    LDMPipeline,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    VQModel,
)
from networks import build_scheduler, build_text_unet, build_tiny_unet
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = 12


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """One token a letter."""
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)


def build_text_encoder(vocabulary: int) -> CLIPTextModel:
    torch.manual_seed(2)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=24,
            projection_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    )


def build_autoencoder() -> AutoencoderKL:
    """Pictures of 16x16 as 4 channels of 8x8."""
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=3.0,
    )


def build_stable_diffusion(folder: Path) -> StableDiffusionPipeline:
    """A pipeline of the parts that Stable Diffusion 1 has; its tokenizer's files come into the folder."""
    tokenizer = build_tokenizer(folder)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=build_autoencoder(),
        text_encoder=build_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=build_text_unet(in_channels=4, out_channels=4, cross_attention_dim=16),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_dit() -> DiTPipeline:
    """A learned variance, three blocks on latents of 8x8, and 1000 classes: the pipeline knows no other number."""
    torch.manual_seed(6)
    network = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=1000,
    )
    return DiTPipeline(network.eval(), build_autoencoder(), build_scheduler())


def build_pixart(*, sized: bool = False) -> PixArtAlphaPipeline:
    """A learned variance, three blocks that attend to a text of one token a letter.

    Args:
        sized: Told the size of the picture, which takes latents of 128x128; by default of 8x8.
    """
    letters = [(letter, -3.0) for letter in ("\u2581", *LETTERS)]
    tokenizer = T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *letters], extra_ids=0, model_max_length=TOKENS
    )
    torch.manual_seed(7)
    text = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    network = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        num_layers=3,
        cross_attention_dim=24,
        caption_channels=16,
        sample_size=128 if sized else 8,
        patch_size=16 if sized else 2,
    )
    parts = (
        T5EncoderModel(text).eval(),
        build_autoencoder(),
        network.eval(),
        build_scheduler(timestep_spacing="leading"),
    )
    return PixArtAlphaPipeline(tokenizer, *parts)


def build_latent_diffusion(**options: object) -> LDMPipeline:
    """A network on latents of 8x8 of a quantizing autoencoder, unconditional unless options give it classes."""
    torch.manual_seed(5)
    autoencoder = VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        norm_num_groups=4,
        num_vq_embeddings=32,
    )
    return LDMPipeline(
        vqvae=autoencoder, unet=build_tiny_unet(size=8, **options), scheduler=DDIMScheduler(clip_sample=False)
    )
