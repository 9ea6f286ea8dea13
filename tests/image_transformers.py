"""Small pipelines of transformers that make pictures, of random weights, with encoders of text of their own kinds."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from networks import randomize
from pipelines import build_flow_autoencoder
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BatchFeature,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

WORDS = "<pad> <end> <unk> a red blue cat dog car and the".split()


def build_words() -> PreTrainedTokenizerFast:
    """One token a word of a few, and one behind the end."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unk>", model_max_length=512
    )


def build_decoder(config: Any, kind: Any, **options: Any) -> Any:
    """A language model of 16 channels."""
    torch.manual_seed(4)
    usual = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return kind(config(**{**usual, **options})).eval()


def build_encoder(config: Any, kind: Any) -> Any:
    """An encoder of 16 channels of the kind of T5."""
    torch.manual_seed(5)
    return kind(config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)).eval()


def spread(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, so that the text counts, too."""
    return randomize(network).float()


def build_sana(distilled: bool = False) -> SanaPipeline | SanaSprintPipeline:
    """Three blocks on latents of 4x4, of pictures of 32x32; the distilled one is told the scale of guidance."""
    torch.manual_seed(6)
    autoencoder = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=[1, 1, 1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    network = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=4,
        guidance_embeds=distilled,
    )
    encoder = build_decoder(Gemma2Config, Gemma2Model, query_pre_attn_scalar=8)
    if distilled:
        return SanaSprintPipeline(build_words(), encoder, autoencoder.eval(), spread(network), SCMScheduler())
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return SanaPipeline(build_words(), encoder, autoencoder.eval(), spread(network), scheduler)


def build_aura_flow() -> AuraFlowPipeline:
    """A joint block and three single ones on latents of 8x8."""
    torch.manual_seed(7)
    network = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=64,
    )
    autoencoder = build_flow_autoencoder()
    autoencoder.register_to_config(shift_factor=None)
    encoder = build_encoder(UMT5Config, UMT5EncoderModel)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.73)
    return AuraFlowPipeline(build_words(), encoder, autoencoder, spread(network), scheduler)


def build_coarse_autoencoder() -> AutoencoderKL:
    """Pictures of 64x64 as 4 channels of 8x8, for pipelines that count on 8 pixels a latent."""
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=0.5,
    ).eval()


def build_hunyuan_dit() -> HunyuanDiTPipeline:
    """Four blocks, the last with a skip, on latents of 8x8, of pictures of 64x64; it predicts v."""
    torch.manual_seed(8)
    network = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        mlp_ratio=2.0,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=8,
        hidden_size=16,
        in_channels=4,
        activation_fn="gelu-approximate",
    )
    bert = BertModel(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
        )
    )
    scheduler = DDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, beta_schedule="scaled_linear", beta_end=0.018
    )
    return HunyuanDiTPipeline(
        build_coarse_autoencoder(),
        bert.eval(),
        build_words(),
        spread(network),
        scheduler,
        None,
        None,
        requires_safety_checker=False,
        text_encoder_2=build_encoder(T5Config, T5EncoderModel),
        tokenizer_2=build_words(),
    )


def build_cog_view4(kind: Any = CogView4Pipeline, in_channels: int = 4) -> Any:
    """Three blocks on latents of 8x8; levels shift with the size, the time of the network does not."""
    torch.manual_seed(9)
    network = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=in_channels,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )
    autoencoder = build_flow_autoencoder()
    autoencoder.register_to_config(shift_factor=None)
    encoder = build_decoder(GlmConfig, GlmModel, partial_rotary_factor=0.5)
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return kind(build_words(), encoder, autoencoder, spread(network), scheduler)


class Qwen2VLProcessor(ProcessorMixin):
    """In place of that of transformers, which needs torchvision: a token for each 28x28 pixels where their sign is."""

    __module__ = "transformers.models.qwen2_vl.processing_qwen2_vl"  # for folders, which name the class

    def __init__(self) -> None:
        self.words = build_words()
        self.words.add_special_tokens({"additional_special_tokens": ["<|image_pad|>"]})
        self.sign = self.words.convert_tokens_to_ids("<|image_pad|>")
        self.pictures = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 56})

    def __call__(self, text: list[str], images: Any, **given: Any) -> BatchFeature:
        seen = self.pictures(images=images if isinstance(images, list) else [images], return_tensors="pt")
        counts = iter([int(grid.prod()) // 4 for grid in seen["image_grid_thw"]])
        rows = [
            torch.tensor([i for word in ids for i in [word] * (next(counts) if word == self.sign else 1)])
            for ids in self.words(text)["input_ids"]
        ]
        pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        mask = pad([torch.ones_like(row) for row in rows])
        return BatchFeature({"input_ids": pad(rows), "attention_mask": mask, **seen})

    def save_pretrained(self, folder: str, **given: Any) -> None:
        """Its words alone: folders of it are refused."""
        self.words.save_pretrained(folder)


def build_qwen_image(kind: Any = QwenImagePipeline) -> Any:
    """Three blocks on packed latents of 8x8, of pictures of 16x16, by an autoencoder of films."""
    seeing = {} if kind is QwenImagePipeline else {"processor": Qwen2VLProcessor()}
    torch.manual_seed(10)
    autoencoder = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 1.5],
    )
    network = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    torch.manual_seed(11)
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    rotation = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    config = Qwen2_5_VLConfig(
        text_config={**layers, "num_key_value_heads": 2, "vocab_size": len(WORDS) + len(seeing),
                     "rope_parameters": rotation, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
        image_token_id=len(WORDS),
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
    )  # fmt: skip
    encoder = Qwen2_5_VLForConditionalGeneration(config).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True, shift_terminal=0.02)
    parts = {"scheduler": scheduler, "vae": autoencoder.eval(), "text_encoder": encoder, "tokenizer": build_words()}
    return kind(**parts, transformer=spread(network), **seeing)


def build_z_image() -> ZImagePipeline:
    """Three blocks behind refiners, on latents of 8x8."""
    torch.manual_seed(12)
    network = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[512, 16, 16],
    )
    tokenizer = build_words()
    tokenizer.chat_template = "{% for message in messages %}the {{ message['content'] }}{% endfor %}"
    encoder = build_decoder(Qwen3Config, Qwen3Model)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return ZImagePipeline(scheduler, build_flow_autoencoder(), encoder, tokenizer, spread(network))


def build_lumina2() -> Lumina2Pipeline:
    """Three blocks behind refiners, on latents of 8x8."""
    torch.manual_seed(13)
    network = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=16,
        num_layers=3,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 16, 16),
        cap_feat_dim=16,
    )
    encoder = build_decoder(Gemma2Config, Gemma2Model, query_pre_attn_scalar=8)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    return Lumina2Pipeline(spread(network), scheduler, build_flow_autoencoder(), encoder, build_words())


def build_chroma() -> ChromaPipeline:
    """A joint block and two single ones on packed latents."""
    torch.manual_seed(14)
    network = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(2, 2, 4),
        approximator_num_channels=16,
        approximator_hidden_dim=8,
        approximator_layers=1,
    )
    scheduler = FlowMatchEulerDiscreteScheduler()
    encoder = build_encoder(T5Config, T5EncoderModel)
    return ChromaPipeline(scheduler, build_flow_autoencoder(), encoder, build_words(), spread(network))


def build_cog_view3() -> CogView3PlusPipeline:
    """Three blocks on latents of 8x8; it predicts v."""
    torch.manual_seed(15)
    network = CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=8,
        sample_size=8,
    )
    autoencoder = build_flow_autoencoder()
    autoencoder.register_to_config(shift_factor=None)
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
    encoder = build_encoder(T5Config, T5EncoderModel)
    return CogView3PlusPipeline(build_words(), encoder, autoencoder, spread(network), scheduler)


def build_mistral() -> Mistral3ForConditionalGeneration:
    """A language model of 16 channels and 31 layers, with one for pictures that gets none."""
    layers = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 31, "num_attention_heads": 2}
    text = {**layers, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(WORDS), "model_type": "mistral"}
    vision = {
        **layers,
        "num_hidden_layers": 1,
        "head_dim": 8,
        "image_size": 8,
        "patch_size": 4,
        "model_type": "pixtral",
    }
    torch.manual_seed(4)
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision)).eval()


def build_flux2(kind: Any = None, *, large: bool = False) -> Any:
    """A joint block and two single ones on folded latents of 4x4, of pictures of 16x16.

    Args:
        kind: Class of the pipeline, by default of text alone.
        large: With the scale of guidance as an input, under a text of Mistral; by default a small one, of Qwen 3.
    """
    torch.manual_seed(16)
    autoencoder = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    autoencoder.bn.running_mean.copy_(torch.linspace(-0.2, 0.3, 16))
    autoencoder.bn.running_var.copy_(torch.linspace(0.2, 2.0, 16))
    network = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=large,
    )
    tokenizer = build_words()
    says = "message['content'][0]['text']" if large else "message['content']"
    tokenizer.chat_template = "{% for message in messages %}the {{ " + says + " }}{% endfor %}"
    encoder = build_mistral() if large else build_decoder(Qwen3Config, Qwen3ForCausalLM, num_hidden_layers=31)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    kind = kind or (Flux2Pipeline if large else Flux2KleinPipeline)
    return kind(scheduler, autoencoder.eval(), encoder, tokenizer, spread(network))
