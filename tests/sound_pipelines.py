"""Small pipelines of sound, of random weights."""

from __future__ import annotations

import math

import torch
from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AudioLDMPipeline,
    AutoencoderKL,
    AutoencoderOobleck,
    EDMEulerScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from image_transformers import build_words
from networks import build_text_unet, randomize
from pipelines import LETTERS, build_latent_scheduler, build_t5
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    ClapTextModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)


class CosineDPMSolverMultistepScheduler(EDMEulerScheduler):
    """The class of this name without its noise: it needs torchsde, and makes another sound each time."""

    __module__ = EDMEulerScheduler.__module__  # so that it is saved as one of diffusers

    def precondition_noise(self, sigma: float | torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(sigma).atan() / math.pi * 2


def build_stable_audio() -> StableAudioPipeline:
    """Waves of two channels and 64 steps as 4 channels of 16, in three blocks."""
    tokenizer, encoder = build_t5()
    torch.manual_seed(4)
    projection = StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32)
    network = StableAudioDiTModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=16,
        time_proj_dim=8,
        global_states_input_dim=32,
        cross_attention_input_dim=16,
    )
    autoencoder = AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 2],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=16,
    )
    scheduler = CosineDPMSolverMultistepScheduler(
        sigma_min=0.3, sigma_max=80.0, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
    )
    return StableAudioPipeline(autoencoder.eval(), encoder, projection.eval(), tokenizer, network.eval(), scheduler)


CLAP = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 40, "projection_dim": 12, "pad_token_id": 0,
}  # fmt: skip


def build_spectrograms() -> tuple[AutoencoderKL, SpeechT5HifiGan]:
    """Waves of 64 steps as spectrograms of 16 frames and 8 bands, and these as 4 channels of 8x4."""
    torch.manual_seed(5)
    autoencoder = AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, scaling_factor=0.9,
    )  # fmt: skip
    vocoder = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
        normalize_before=False, initializer_range=0.2,
    )  # fmt: skip
    return autoencoder.eval(), SpeechT5HifiGan(vocoder).eval()


def build_audio_ldm() -> AudioLDMPipeline:
    """Two resolutions, told a text as a whole."""
    words = build_words()
    words.model_max_length = 12
    autoencoder, vocoder = build_spectrograms()
    encoder = ClapTextModelWithProjection(ClapTextConfig(**CLAP)).eval()
    unet = build_text_unet(
        in_channels=4, out_channels=4, cross_attention_dim=(8, 16), class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=12, class_embeddings_concat=True,
    )  # fmt: skip
    return AudioLDMPipeline(autoencoder, encoder, words, randomize(unet).float(), build_latent_scheduler(), vocoder)


def build_letters() -> RobertaTokenizer:
    """A token a letter."""
    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<s>", "<unk>", "<mask>", "\u0120", *LETTERS))}
    return RobertaTokenizer(vocab=words, merges=[], model_max_length=12)


def build_audio_ldm2() -> AudioLDM2Pipeline:
    """Two resolutions that attend to what a language model writes and to T5."""
    autoencoder, vocoder = build_spectrograms()
    tokenizer_2, encoder_2 = build_t5()
    torch.manual_seed(6)
    audio = ClapAudioConfig(
        spec_size=8, window_size=4, num_mel_bins=8, intermediate_size=24, depths=[1, 1], num_attention_heads=[1, 1],
        num_hidden_layers=1, hidden_size=192, projection_dim=8, patch_size=2, patch_stride=2,
        patch_embed_input_channels=4,
    )  # fmt: skip
    clap = ClapModel(ClapConfig(text_config=CLAP, audio_config=audio.to_dict(), projection_dim=16))
    written = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=8, n_positions=99, max_new_tokens=4)
    projection = AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=16, langauge_model_dim=16)
    unet = AudioLDM2UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, attention_head_dim=2, cross_attention_dim=[[None, 16, 16], [None, 16, 16]],
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return AudioLDM2Pipeline(
        autoencoder, clap.eval(), encoder_2, projection.eval(), GPT2LMHeadModel(written).eval(), build_letters(),
        tokenizer_2, ClapFeatureExtractor(), randomize(unet).float(), build_latent_scheduler(), vocoder,
    )  # fmt: skip
