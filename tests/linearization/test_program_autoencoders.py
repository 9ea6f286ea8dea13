"""Autoencoders and networks on sequences against torch.func, in float64."""

from __future__ import annotations

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderOobleck,
    AutoencoderTiny,
    StableCascadeUNet,
    UNet1DModel,
    VQModel,
)
from networks import rand, randomize
from truth import check_network as check

BLOCKS = dict(
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    norm_num_groups=4,
)


def test_encoder() -> None:
    net = randomize(AutoencoderKL(**BLOCKS))
    check(lambda z: net.encode(z).latent_dist.mean, rand(1, 3, 8, 8))


def test_quantized() -> None:
    net = randomize(VQModel(**BLOCKS, num_vq_embeddings=8))
    check(lambda z: net.decode(z, force_not_quantize=True).sample, rand(1, 3, 4, 4))


def test_asymmetric() -> None:
    net = AsymmetricAutoencoderKL(
        down_block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    net = randomize(net)
    check(lambda z: net.decode(z).sample, rand(1, 4, 4, 4))


def test_tiny() -> None:
    net = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    net = randomize(net)
    check(lambda z: net.decode(z).sample, rand(1, 4, 4, 4))
    check(lambda z: net.encode(z).latents, rand(1, 3, 8, 8))


def test_deep_compression() -> None:
    net = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        downsample_block_type="stride_conv",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    net = randomize(net)
    check(lambda z: net.decode(z).sample, rand(1, 4, 4, 4), tolerance=1e-5)  # attention passes through float32


def test_sound() -> None:
    net = AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
    )
    net = randomize(net)
    check(lambda z: net.decode(z).sample, rand(1, 4, 4))


def test_sequences() -> None:
    net = UNet1DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownResnetBlock1D", "DownResnetBlock1D"),
        up_block_types=("UpResnetBlock1D",),
        mid_block_type="MidResTemporalBlock1D",
        out_block_type="OutConv1DBlock",
        time_embedding_type="positional",
        use_timestep_embedding=True,
        act_fn="mish",
        downsample_each_block=False,
        flip_sin_to_cos=False,
    )
    net = randomize(net)
    check(lambda x, t: net(x, t).sample, rand(1, 4, 16), torch.tensor([500]))


def test_cascade() -> None:
    net = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=16,
        timestep_ratio_embedding_dim=8,
        block_out_channels=(8, 16),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        clip_text_in_channels=6,
        clip_text_pooled_in_channels=6,
        clip_image_in_channels=6,
        clip_seq=2,
        switch_level=(False,),
    )
    net = randomize(net)

    def f(x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return net(x, t, clip_text_pooled=pooled, clip_text=text).sample

    check(f, rand(1, 4, 4, 4), rand(1), rand(1, 5, 6), rand(1, 1, 6))
