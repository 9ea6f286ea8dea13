"""Small pipelines of sound, of random weights."""

from __future__ import annotations

import math

import torch
from diffusers import (
    AutoencoderOobleck,
    EDMEulerScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from pipelines import build_t5


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
