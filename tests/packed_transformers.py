"""Small pipelines of further transformers that make pictures, of random weights."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from diffusers import (
    AutoencoderKLHunyuanImage,
    AutoencoderKLWan,
    BriaFibo2Pipeline,
    BriaFiboPipeline,
    BriaPipeline,
    ClassifierFreeGuidance,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    NucleusMoEImagePipeline,
    NucleusMoEImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    PRXPipeline,
    PRXTransformer2DModel,
)
from diffusers.models.transformers.transformer_bria import BriaTransformer2DModel
from diffusers.models.transformers.transformer_bria_fibo import BriaFiboTransformer2DModel
from diffusers.models.transformers.transformer_bria_fibo2 import BriaFibo2Transformer2DModel
from diffusers.pipelines.prx import pipeline_prx
from image_transformers import (
    WORDS,
    build_coarse_autoencoder,
    build_decoder,
    build_encoder,
    build_flux2,
    build_mistral,
    build_qwen_image,
    build_words,
    spread,
)
from pipelines import build_flow_autoencoder
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    GemmaConfig,
    GemmaModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

PACKED = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (4, 2, 2),
}


def build_ovis_image() -> OvisImagePipeline:
    """A joint block and two single ones on packed latents of 8x8."""
    torch.manual_seed(20)
    network = OvisImageTransformer2DModel(**PACKED, out_channels=16)
    tokenizer = build_words()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    encoder = build_decoder(Qwen3Config, Qwen3Model)
    return OvisImagePipeline(scheduler, build_flow_autoencoder(), encoder, tokenizer, spread(network))


def build_longcat_image() -> LongCatImagePipeline:
    """The same blocks; the pipeline rewrites no prompts without a processor of texts."""
    torch.manual_seed(21)
    network = LongCatImageTransformer2DModel(**PACKED, pooled_projection_dim=16)
    encoder = build_qwen_image().text_encoder
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return LongCatImagePipeline(scheduler, build_flow_autoencoder(), encoder, build_words(), None, spread(network))


def build_bria(*, shifted: bool = True) -> BriaPipeline:
    """A joint block and two single ones on packed latents of 8x8.

    Args:
        shifted: Whether levels shift with the size of pictures.
    """
    torch.manual_seed(22)
    network = BriaTransformer2DModel(**PACKED)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=shifted)
    encoder = build_encoder(T5Config, T5EncoderModel)
    return BriaPipeline(spread(network), scheduler, build_flow_autoencoder(), encoder, build_words())


def build_wan_autoencoder() -> AutoencoderKLWan:
    """Pictures of 16x16 as 4 channels of 8x8."""
    torch.manual_seed(23)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 1.5],
        scale_factor_spatial=2,
    ).eval()


def build_fibo(kind: Any = BriaFiboPipeline) -> Any:
    """A joint block and two single ones on latents of 8x8, told three layers of a language model."""
    torch.manual_seed(24)
    network = BriaFiboTransformer2DModel(**{**PACKED, "in_channels": 4, "joint_attention_dim": 32}, text_encoder_dim=16)
    encoder = build_decoder(SmolLM3Config, SmolLM3ForCausalLM, vocab_size=128001)  # one begins empty texts
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return kind(spread(network), scheduler, build_wan_autoencoder(), encoder, build_words())


def qwen3_vl(layers: int = 2) -> Qwen3VLConfig:
    """A language model of 16 channels and so many layers, with one for pictures that gets none."""
    rotation = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": layers, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(WORDS), "rope_parameters": rotation,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    return Qwen3VLConfig(text_config=text, vision_config=vision)


def build_krea2(*, distilled: bool = False) -> Krea2Pipeline:
    """Three blocks on packed latents of 8x8, told two layers of a language model."""
    torch.manual_seed(25)
    network = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        timestep_embed_dim=8,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=24,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    torch.manual_seed(26)
    encoder = Qwen3VLModel(qwen3_vl()).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_image_seq_len=6400)
    return Krea2Pipeline(
        scheduler,
        build_qwen_image().vae,
        encoder,
        build_words(),
        spread(network),
        text_encoder_select_layers=(1, 2),
        is_distilled=distilled,
    )


def build_ernie_image() -> ErnieImagePipeline:
    """Three blocks on folded latents of 4x4, of pictures of 16x16."""
    torch.manual_seed(27)
    network = ErnieImageTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_layers=3,
        ffn_hidden_size=24,
        in_channels=16,
        out_channels=16,
        patch_size=1,
        text_in_dim=16,
        rope_axes_dim=(4, 2, 2),
    )
    autoencoder = build_flux2().vae
    autoencoder.register_to_config(batch_norm_eps=1e-5)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return ErnieImagePipeline(spread(network), autoencoder, build_mistral().model, build_words(), scheduler)


def build_prx() -> PRXPipeline:
    """Three blocks on latents of 8x8; words are as they are without what ftfy would mend in them."""
    torch.manual_seed(28)
    network = PRXTransformer2DModel(
        in_channels=4, patch_size=2, context_in_dim=16, hidden_size=16, num_heads=2, depth=3, axes_dim=[4, 4]
    )
    layers = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
              "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}  # fmt: skip
    encoder = T5GemmaEncoder(T5GemmaConfig(encoder=layers, decoder=layers).encoder).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipeline_prx.ftfy = mock.Mock(fix_text=str)
    return PRXPipeline(spread(network), scheduler, encoder, build_words(), build_flow_autoencoder())


def build_lumina() -> LuminaPipeline:
    """Three blocks on latents of 8x8, of pictures of 64x64."""
    torch.manual_seed(29)
    network = LuminaNextDiT2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=16,
        num_layers=3,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=16,
    )
    encoder = build_decoder(GemmaConfig, GemmaModel)
    scheduler = FlowMatchEulerDiscreteScheduler()
    return LuminaPipeline(spread(network), scheduler, build_coarse_autoencoder(), encoder, build_words())


def build_hunyuan_image() -> HunyuanImagePipeline:
    """A joint block and two single ones on latents of 8x8, of pictures of 16x16; guidance as usual, by 3."""
    torch.manual_seed(30)
    network = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=16,
        rope_axes_dim=(4, 4),
    )
    autoencoder = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=16,
        scaling_factor=0.75,
    )
    return HunyuanImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        autoencoder.eval(),
        build_qwen_image().text_encoder,
        build_words(),
        build_encoder(T5Config, T5EncoderModel),
        build_words(),
        spread(network),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )


def clip_text() -> CLIPTextConfig:
    """Two layers of 16 channels, for texts of up to 128 tokens."""
    return CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        projection_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )


def build_hidream() -> HiDreamImagePipeline:
    """A joint block and two single ones with four experts, two of them at work, on latents of 8x8."""
    torch.manual_seed(40)
    network = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=[16, 16],
        text_emb_dim=16,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(8, 16),
        llama_layers=[0, 1, 1],
    )
    clip = clip_text()
    words, few = build_words(), build_words()
    few.model_max_length = 16  # most of the work of the network would be with what they are filled up with
    pipeline = HiDreamImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        build_flow_autoencoder(),
        CLIPTextModelWithProjection(clip).eval(),
        words,
        CLIPTextModelWithProjection(clip).eval(),
        words,
        build_encoder(T5Config, T5EncoderModel),
        few,
        build_decoder(LlamaConfig, LlamaForCausalLM),
        few,
        spread(network),
    )
    pipeline.default_sample_size = 8  # it keeps the area of pictures
    return pipeline


def build_fibo_2() -> BriaFibo2Pipeline:
    """Five blocks that read the text again, on latents of 8x8, of pictures of 16x16."""
    torch.manual_seed(41)
    network = BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=5,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=48,
        injection_layer_ids=(0, 1, 2, 3, 4),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=2,
        gist_min_text_len=40,
        gist_max_text_len=64,
        axes_dims=(4, 4, 4),
        axes_lens=(16, 16, 16),
    )
    torch.manual_seed(42)
    encoder = Qwen3VLForConditionalGeneration(qwen3_vl(36)).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return BriaFibo2Pipeline(spread(network), scheduler, build_flux2().vae, encoder, build_words())


def build_nucleus() -> NucleusMoEImagePipeline:
    """Three blocks, two of them with four experts, on packed latents of 8x8."""
    torch.manual_seed(43)
    network = NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
        mlp_ratio=12.0,
        dense_moe_strategy="leave_first_block_dense",
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    torch.manual_seed(44)
    encoder = Qwen3VLForConditionalGeneration(qwen3_vl(9)).eval()
    tokenizer = build_words()
    tokenizer.chat_template = "{% for message in messages[1:] %}the {{ message['content'][0]['text'] }}{% endfor %}"
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return NucleusMoEImagePipeline(spread(network), scheduler, build_qwen_image().vae, encoder, tokenizer)


def build_kandinsky_5(kind: Any = Kandinsky5T2IPipeline, **options: Any) -> Any:
    """Three blocks on latents of 8x8, of pictures of 64x64; their shift is ignored by the pipeline.

    Args:
        kind: Class of the pipeline.
        **options: Of its network.
    """
    torch.manual_seed(45)
    network = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        model_dim=16,
        ff_dim=24,
        num_text_blocks=1,
        num_visual_blocks=3,
        axes_dims=(4, 2, 2),
        **options,
    )
    autoencoder = build_coarse_autoencoder()
    autoencoder.register_to_config(shift_factor=0.1)
    words = build_words()
    pipeline = kind(
        spread(network),
        autoencoder,
        build_qwen_image().text_encoder,
        words,
        CLIPTextModel(clip_text()).eval(),
        words,
        FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipeline.resolutions = [(64, 64)]
    return pipeline
