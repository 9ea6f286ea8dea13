"""Small pipelines with an autoencoder, and with text, of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LDMPipeline,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
    VQModel,
)
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from networks import build_scheduler, build_text_unet, build_tiny_unet, randomize
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = 12
# Options of a U-Net with text of one resolution, half the operators: for tests that trace it.
SHALLOW = {
    "block_out_channels": (8,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
}


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """One token a letter."""
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TOKENS)


def build_text_encoder(vocabulary: int, kind: Any = CLIPTextModel, layers: int = 2) -> Any:
    torch.manual_seed(2)
    return kind(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=24,
            projection_dim=16,
            num_hidden_layers=layers,
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


def build_latent_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_stable_diffusion(folder: Path, kind: Any = StableDiffusionPipeline, **options: object) -> Any:
    """A pipeline of the parts that Stable Diffusion 1 has; its tokenizer's files come into the folder.

    Args:
        folder: For files of the tokenizer.
        kind: Class of the pipeline.
        options: Of the U-Net.
    """
    tokenizer = build_tokenizer(folder)
    return kind(
        vae=build_autoencoder(),
        text_encoder=build_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=build_text_unet(**{"in_channels": 4, "out_channels": 4, "cross_attention_dim": 16, **options}),
        scheduler=build_latent_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sdxl(folder: Path, kind: Any = StableDiffusionXLPipeline, *, refiner: bool = False, **options: object) -> Any:
    """One of the parts that Stable Diffusion XL has, or its refiner; see :func:`build_stable_diffusion`."""
    tokenizers = build_tokenizer(folder), build_tokenizer(folder)
    halves = CLIPTextModel, CLIPTextModelWithProjection
    first, second = (build_text_encoder(len(tokenizers[0]), half, layers=3) for half in halves)
    usual = {
        "in_channels": 4,
        "out_channels": 4,
        "cross_attention_dim": 16 if refiner else 32,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 8 * (5 if refiner else 6) + 16,
    }
    unet = build_text_unet(**{**usual, **options})
    settings = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False} if refiner else {}
    return kind(
        vae=build_autoencoder(),
        text_encoder=None if refiner else first,
        text_encoder_2=second,
        tokenizer=None if refiner else tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=build_latent_scheduler(),
        **({} if "InstructPix2Pix" in kind.__name__ else {"add_watermarker": False}),
        **settings,
    )


def build_controlled(folder: Path, kind: Any, **options: object) -> Any:
    """One of the parts of :func:`build_stable_diffusion` or :func:`build_sdxl`, by its class, and a ControlNet."""
    plain = build_sdxl(folder, **options) if "XL" in kind.__name__ else build_stable_diffusion(folder, **options)
    torch.manual_seed(6)
    parts = {**plain.components, "controlnet": ControlNetModel.from_unet(plain.unet, "rgb", (4, 4))}
    randomize(parts["controlnet"]).float()  # it starts with zeros
    return kind(
        **parts, **({"add_watermarker": False} if "XL" in kind.__name__ else {"requires_safety_checker": False})
    )


def build_union(folder: Path, kind: Any = StableDiffusionXLControlNetUnionPipeline) -> Any:
    """One of the parts of :func:`build_sdxl` and a ControlNet for three kinds of pictures."""
    plain = build_sdxl(folder)
    config = {key: plain.unet.config[key] for key in (
        "in_channels", "down_block_types", "block_out_channels", "layers_per_block", "norm_num_groups",
        "cross_attention_dim", "attention_head_dim", "addition_embed_type", "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    )}  # fmt: skip
    sizes = {"num_control_type": 3, "num_trans_channel": 8, "num_trans_head": 2, "num_trans_layer": 1}
    net = ControlNetUnionModel(**config, conditioning_embedding_out_channels=(4, 4), num_proj_channel=8, **sizes)
    randomize(net).float()
    return kind(**plain.components, controlnet=net, add_watermarker=False)


def build_two_controlled(folder: Path, kind: Any, **options: object) -> Any:
    """One of :func:`build_controlled` with two ControlNets."""
    one = build_controlled(folder, kind, **options)
    torch.manual_seed(7)
    second = ControlNetModel.from_unet(one.unet, "rgb", (4, 4))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return kind(**{**one.components, "controlnet": [one.controlnet, second]}, requires_safety_checker=False)


def build_adapted(folder: Path, kind: Any, count: int = 1, **options: object) -> Any:
    """One of the parts of :func:`build_stable_diffusion` or :func:`build_sdxl`, and T2I-Adapters."""
    large = "XL" in kind.__name__
    plain = build_sdxl(folder, **options) if large else build_stable_diffusion(folder, **options)
    torch.manual_seed(8)
    sizes = {"channels": [8, 16], "num_res_blocks": 1, "downscale_factor": 2, "adapter_type": "full_adapter"}
    adapters = [T2IAdapter(in_channels=3, **sizes).eval() for _ in range(count)]
    parts = {**plain.components, "adapter": adapters[0] if count == 1 else adapters}
    if not large:
        del parts["image_encoder"]
    return kind(**parts, **({} if large else {"requires_safety_checker": False}))


def build_image_encoder() -> tuple[CLIPImageProcessor, CLIPVisionModelWithProjection]:
    """Pictures of 32x32 as four tokens and a class, of width 16, or as embeddings of 12 channels."""
    torch.manual_seed(9)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, projection_dim=12, num_hidden_layers=3, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return processor, CLIPVisionModelWithProjection(config).eval()


def build_prompted(folder: Path, kind: Any, tokens: tuple[bool, ...] = (False,), **options: object) -> Any:
    """One of the parts of :func:`build_stable_diffusion` or :func:`build_sdxl`, and IP-Adapters.

    Args:
        folder: For files of tokenizers.
        kind: Class of the pipeline.
        tokens: Of each adapter, whether it gets the tokens of a picture.
        options: Of the U-Net.
    """
    pipeline = (build_sdxl if "XL" in kind.__name__ else build_stable_diffusion)(folder, kind, **options)
    processor, encoder = build_image_encoder()
    pipeline.register_modules(image_encoder=encoder, feature_extractor=processor)
    unet = pipeline.unet
    width = unet.config.cross_attention_dim
    torch.manual_seed(10)
    states = []
    for _ in tokens:
        projection = {"proj.weight": torch.randn(4 * width, 12), "proj.bias": torch.randn(4 * width)}
        norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
        weights = {}
        places = [p for name, p in unet.attn_processors.items() if "attn2" in name]
        sizes = [unet.get_submodule(n.removesuffix(".processor")).to_q.out_features
                 for n in unet.attn_processors if "attn2" in n]  # fmt: skip
        for i in range(len(places)):
            weights |= {f"{2 * i + 1}.to_{part}_ip.weight": torch.randn(sizes[i], width) for part in "kv"}
        states.append({"image_proj": projection | norm, "ip_adapter": weights})
    unet._load_ip_adapter_weights(states)
    for i, of_tokens in enumerate(tokens):
        if of_tokens:
            layers = unet.encoder_hid_proj.image_projection_layers
            layers[i] = IPAdapterPlusImageProjection(
                embed_dims=16, output_dims=width, hidden_dims=8, depth=1, dim_head=4, heads=2, num_queries=3
            )
    return pipeline


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


def build_t5(width: int = 16) -> tuple[T5Tokenizer, T5EncoderModel]:
    """One token a letter, behind a sign for the beginning of each word."""
    letters = [(letter, -3.0) for letter in ("\u2581", *LETTERS)]
    tokenizer = T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *letters], extra_ids=0, model_max_length=TOKENS
    )
    torch.manual_seed(7)
    text = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    return tokenizer, T5EncoderModel(text).eval()


def build_pixart(*, sized: bool = False) -> PixArtAlphaPipeline:
    """A learned variance, three blocks that attend to a text of one token a letter.

    Args:
        sized: Told the size of the picture, which takes latents of 128x128; by default of 8x8.
    """
    tokenizer, encoder = build_t5()
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
    parts = encoder, build_autoencoder(), network.eval(), build_scheduler(timestep_spacing="leading")
    return PixArtAlphaPipeline(tokenizer, *parts)


def build_flow_autoencoder() -> AutoencoderKL:
    """Latents with a shift, as those of Stable Diffusion 3 and Flux have one."""
    autoencoder = build_autoencoder()
    autoencoder.register_to_config(shift_factor=0.1, use_quant_conv=True)
    return autoencoder


def build_stable_diffusion_3(folder: Path, *, t5: bool = False) -> StableDiffusion3Pipeline:
    """Four joint blocks on latents of 8x8; a text of T5 if asked for, else zeros in its place."""
    tokenizers = build_tokenizer(folder), build_tokenizer(folder)
    encoders = [build_text_encoder(len(t), CLIPTextModelWithProjection, layers=3).eval() for t in tokenizers]
    third, third_encoder = build_t5(32) if t5 else (None, None)
    torch.manual_seed(8)
    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3Pipeline(
        network.eval(), scheduler, build_flow_autoencoder(), encoders[0], tokenizers[0], encoders[1], tokenizers[1],
        third_encoder, third,
    )  # fmt: skip


def build_flux(folder: Path, kind: Any = FluxPipeline, *, distilled: bool = True, **options: object) -> Any:
    """Two joint and two single blocks; T5 at another length than CLIP; options are of the transformer."""
    tokenizer, (tokenizer_2, encoder_2) = build_tokenizer(folder), build_t5()
    torch.manual_seed(9)
    usual = {
        "in_channels": 16, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2,
        "joint_attention_dim": 16, "pooled_projection_dim": 16, "guidance_embeds": distilled,
        "axes_dims_rope": (2, 2, 4),
    }  # fmt: skip
    network = FluxTransformer2DModel(**{**usual, **options})
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    encoder = build_text_encoder(len(tokenizer)).eval()
    return kind(scheduler, build_flow_autoencoder(), encoder, tokenizer, encoder_2, tokenizer_2, network.eval())


def build_latent_diffusion(kind: Any = LDMPipeline, **options: object) -> Any:
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
    return kind(vqvae=autoencoder, unet=build_tiny_unet(size=8, **options), scheduler=DDIMScheduler(clip_sample=False))
