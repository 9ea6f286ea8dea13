"""The networks of the built-in models, and their schedule."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import DDIMScheduler, UNet2DModel

WIDTHS = (32, 64, 128, 192)
ATTENTION_LEVELS = (2, 3)  # 16x16 and 8x8, as in the paper's DDPM networks


def build_unet(size: int, widths: Sequence[int] = WIDTHS) -> UNet2DModel:
    """U-Net of four resolutions with self-attention at the two lowest and in the middle."""
    levels = range(len(widths))
    return UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=tuple(widths),
        down_block_types=tuple("AttnDownBlock2D" if i in ATTENTION_LEVELS else "DownBlock2D" for i in levels),
        up_block_types=tuple("AttnUpBlock2D" if i in ATTENTION_LEVELS else "UpBlock2D" for i in reversed(levels)),
        attention_head_dim=32,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """The linear schedule of DDPM; no clipping, so that DDIM steps stay invertible."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        prediction_type="v_prediction",
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
