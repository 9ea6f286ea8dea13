"""The networks of the text model: an autoencoder, a text encoder, and a denoiser that attends to its output."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from network import build_scheduler
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LATENT_CHANNELS = 4
AUTOENCODER_WIDTHS = (16, 32, 64)
DENOISER_WIDTHS = (64, 128)
TEXT_WIDTH, TEXT_LAYERS = 128, 2


def build_autoencoder(size: int, widths: Sequence[int] = AUTOENCODER_WIDTHS) -> AutoencoderKL:
    """Between pictures ``[B, 3, S, S]`` and latents ``[B, 4, S / 4, S / 4]``, for three widths."""
    return AutoencoderKL(
        sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        scaling_factor=1.0,
    )


class TextDenoiser(nn.Module):
    """A U-Net with cross-attention at every resolution and the text encoder that it listens to, trained together.

    Args:
        tokenizer: Decides the number of tokens and how they are padded.
        latent_size: Side of the latents.
        widths: Channels of the U-Net at each of its resolutions.
    """

    def __init__(self, tokenizer: CLIPTokenizer, latent_size: int, widths: Sequence[int] = DENOISER_WIDTHS) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                projection_dim=TEXT_WIDTH,
                num_hidden_layers=TEXT_LAYERS,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                hidden_act="gelu",
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=latent_size,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            down_block_types=("CrossAttnDownBlock2D",) * len(widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(widths),
            block_out_channels=tuple(widths),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,  # the number of heads, whatever its name says
            norm_num_groups=16,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predictions for latents ``[B, 4, H, W]`` under captions of tokens ``[B, T]``."""
        return self.unet(noisy, timesteps, self.text_encoder(tokens).last_hidden_state).sample


def build_text_scheduler() -> DDIMScheduler:
    """The schedule of all models here, in the form that pipelines with text expect."""
    # What they ask for; trailing timesteps do not depend on it.
    return DDIMScheduler.from_config(build_scheduler().config, steps_offset=1)


def build_pipeline(
    autoencoder: AutoencoderKL, denoiser: TextDenoiser, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The pipeline of these networks."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=build_text_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
