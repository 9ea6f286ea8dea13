"""Small pipelines of random weights whose U-Nets are told a picture, beside a text or in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from controlled_pipelines import certain
from diffusers import DDIMScheduler, DDPMScheduler, VQModel
from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from networks import build_text_unet
from pipelines import (
    LETTERS,
    TOKENS,
    build_autoencoder,
    build_image_encoder,
    build_latent_scheduler,
    build_stable_diffusion,
    build_t5,
    build_text_encoder,
    build_tokenizer,
)
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
    XLMRobertaTokenizer,
)

LATENT = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 16}


def texts(folder: Path) -> dict[str, Any]:
    """Parts of Stable Diffusion without its U-Net."""
    plain = build_stable_diffusion(folder).components
    return {name: plain[name] for name in ("vae", "text_encoder", "tokenizer", "scheduler")}


def build_variation(folder: Path) -> Any:
    processor, encoder = build_image_encoder()
    return diffusers.StableDiffusionImageVariationPipeline(
        build_autoencoder(), encoder, build_text_unet(**{**LATENT, "cross_attention_dim": 12}),
        build_latent_scheduler(), None, processor, requires_safety_checker=False,
    )  # fmt: skip


def build_painting(folder: Path) -> Any:
    torch.manual_seed(21)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=12,
    )  # fmt: skip
    encoder = PaintByExampleImageEncoder(config).eval()
    processor, _ = build_image_encoder()
    return diffusers.PaintByExamplePipeline(
        certain(build_autoencoder()), encoder,
        build_text_unet(**{**LATENT, "in_channels": 9, "cross_attention_dim": 12}), build_latent_scheduler(),
        None, processor, requires_safety_checker=False,
    )  # fmt: skip


class MarigoldDepthPipeline(diffusers.MarigoldDepthPipeline):
    """Whose prediction is the picture that becomes depth, which has no meaning with weights such as these."""

    def decode_prediction(self, pred_latent: torch.Tensor) -> torch.Tensor:
        return (self.vae.decode(pred_latent / self.vae.config.scaling_factor).sample / 2 + 0.5).clip(0, 1)


def build_marigold(folder: Path) -> Any:
    unet = build_text_unet(**{**LATENT, "in_channels": 8})
    parts = {**texts(folder), "scheduler": DDIMScheduler(prediction_type="v_prediction", clip_sample=False)}
    return MarigoldDepthPipeline(unet=unet, **parts, scale_invariant=False, shift_invariant=False)


def build_depth(folder: Path) -> Any:
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32,
        backbone_out_indices=[0, 0, 1, 1], neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
    )  # fmt: skip
    estimator, processor = DPTForDepthEstimation(config), DPTImageProcessorPil()
    unet = build_text_unet(**{**LATENT, "in_channels": 5})
    return diffusers.StableDiffusionDepth2ImgPipeline(
        **texts(folder), unet=unet, depth_estimator=estimator, feature_extractor=processor
    )


def build_upscale(folder: Path) -> Any:
    unet = build_text_unet(**{**LATENT, "in_channels": 7, "num_class_embeds": 1000})
    return diffusers.StableDiffusionUpscalePipeline(**texts(folder), unet=unet, low_res_scheduler=DDPMScheduler())


def build_unclip(folder: Path) -> Any:
    processor, encoder = build_image_encoder()
    torch.manual_seed(11)
    normalizer = StableUnCLIPImageNormalizer(12)
    with torch.no_grad():
        normalizer.mean.normal_()
        normalizer.std.uniform_(0.5, 2.0)
    told = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 24}
    return diffusers.StableUnCLIPImg2ImgPipeline(
        **texts(folder), unet=build_text_unet(**LATENT, **told), image_encoder=encoder, image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"), feature_extractor=processor,
    )  # fmt: skip


def build_movq() -> VQModel:
    """Pictures of 64x64 as latents of 8x8."""
    torch.manual_seed(12)
    return VQModel(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        up_block_types=("AttnUpDecoderBlock2D",) * 4, norm_num_groups=8, num_vq_embeddings=32, norm_type="spatial",
    )  # fmt: skip


def build_kandinsky(folder: Path, *, control: bool = False, prior: bool = False) -> Any:
    """Kandinsky 2.2 with a learned variance; with a ControlNet of its own, or with a prior, on demand."""
    kind = diffusers.KandinskyV22ControlnetPipeline if control else diffusers.KandinskyV22Pipeline
    told = {
        "encoder_hid_dim": 12, "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image_hint" if control else "image",
    }  # fmt: skip
    unet = build_text_unet(**{**LATENT, "in_channels": 8 if control else 4, "out_channels": 8, **told})
    if not prior:
        return kind(unet, build_latent_scheduler(), build_movq())
    processor, encoder = build_image_encoder()
    tokenizer = build_tokenizer(folder)
    text = build_text_encoder(len(tokenizer), CLIPTextModelWithProjection)
    transformer = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=6, num_layers=1, embedding_dim=12, num_embeddings=TOKENS
    )
    return diffusers.KandinskyV22CombinedPipeline(
        unet, build_latent_scheduler(), build_movq(), transformer, encoder, text, tokenizer,
        diffusers.UnCLIPScheduler(), processor,
    )  # fmt: skip


def build_kandinsky_inpaint(folder: Path) -> Any:
    """Kandinsky 2.2 that completes pictures."""
    told = {"encoder_hid_dim": 12, "encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
    unet = build_text_unet(**{**LATENT, "in_channels": 9, "out_channels": 8, **told})
    return diffusers.KandinskyV22InpaintPipeline(unet, build_latent_scheduler(), build_movq())


def build_kandinsky_21(folder: Path, *, masked: bool = False) -> Any:
    """Kandinsky 2.1: a text of one token a letter beside the embedding; one that completes pictures on demand."""
    letters = [(letter, -3.0) for letter in ("\u2581", *LETTERS)]
    tokenizer = XLMRobertaTokenizer(
        vocab=[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *letters, ("<mask>", 0.0)],
        model_max_length=TOKENS,
    )
    torch.manual_seed(13)
    config = MCLIPConfig(
        transformerDimSize=16, imageDimSize=12, vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=100,
    )  # fmt: skip
    told = {
        "encoder_hid_dim": 16, "encoder_hid_dim_type": "text_image_proj", "addition_embed_type": "text_image",
        "cross_attention_dim": 12, "in_channels": 9 if masked else 4, "out_channels": 8,
    }  # fmt: skip
    encoder = MultilingualCLIP(config).eval()
    kind = diffusers.KandinskyInpaintPipeline if masked else diffusers.KandinskyPipeline
    return kind(
        text_encoder=encoder, tokenizer=tokenizer, unet=build_text_unet(**{**LATENT, **told}),
        scheduler=build_latent_scheduler(), movq=build_movq(),
    )  # fmt: skip


def build_deepfloyd(folder: Path, *, upscaled: bool = False) -> Any:
    """On pixels of 8x8, a learned variance; with a picture of lower resolution on demand."""
    tokenizer, encoder = build_t5()
    told = {
        "in_channels": 6 if upscaled else 3, "out_channels": 6, "encoder_hid_dim": 16, "cross_attention_dim": 16,
        "encoder_hid_dim_type": "text_proj", "addition_embed_type": "text", "addition_embed_type_num_heads": 2,
        "class_embed_type": "timestep" if upscaled else None,
    }  # fmt: skip
    parts = {
        "tokenizer": tokenizer, "text_encoder": encoder, "unet": build_text_unet(**told), "safety_checker": None,
        "scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "feature_extractor": None, "watermarker": None, "requires_safety_checker": False,
    }  # fmt: skip
    parts["scheduler"].register_to_config(variance_type="fixed_small")  # no step reads the learned one
    if upscaled:
        return diffusers.IFSuperResolutionPipeline(**parts, image_noising_scheduler=DDPMScheduler())
    return diffusers.IFPipeline(**parts)


def build_gligen(folder: Path) -> Any:
    unet = build_text_unet(**LATENT, attention_type="gated")
    return diffusers.StableDiffusionGLIGENPipeline(
        **texts(folder), unet=unet, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
