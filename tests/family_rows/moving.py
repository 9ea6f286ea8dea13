"""Networks of videos and sound."""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import torch
import video_pipelines
from family_rows.given import flow
from small_pipeline import SCALE, Small
from sound_pipelines import build_audio_ldm, build_audio_ldm2, build_stable_audio

import latentjac


def unscaled(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    """Noise of deviation 1, which the pipeline scales."""
    return {"latents": noise / model.scheduler.init_noise_sigma}


ROWS: dict[str, Small] = {
    "wan": flow("WAN", video_pipelines.build_wan, size=(16, 32), frames=5, tol=1e-5),
    "ltx": flow(
        "LTX",
        video_pipelines.build_ltx,
        lambda model, noise: {"latents": noise.flatten(2).transpose(1, 2)},
        size=(32, 32),
        frames=5,
    ),
    "cogvideox": flow(
        "COGVIDEOX",
        video_pipelines.build_cogvideox,
        lambda model, noise: {"latents": noise.transpose(1, 2)},
        size=(8, 16),
        frames=9,
    ),
    "wan-2-2": flow("WAN_STAGED", video_pipelines.build_staged_wan, size=(16, 32), frames=5, tol=1e-5),
    "hunyuan-video": flow("HUNYUAN_VIDEO", video_pipelines.build_hunyuan_video, size=(16, 32), frames=5),
    "hunyuan-video-undistilled": flow(
        "HUNYUAN_VIDEO_PLAIN",
        partial(video_pipelines.build_hunyuan_video, guidance_embeds=False),
        lambda model, noise: {"negative_prompt": "", "true_cfg_scale": SCALE},
        size=(16, 32),
        frames=5,
    ),
    "animatediff": Small("ANIMATEDIFF", video_pipelines.build_animatediff, frames=3),
    "animatediff-sdxl": Small(
        "ANIMATEDIFF_XL",
        partial(video_pipelines.build_animatediff, kind=diffusers.AnimateDiffSDXLPipeline),
        frames=3,
    ),
    "stable-audio": flow("STABLE_AUDIO", build_stable_audio, unscaled),
    "audio-ldm": flow("AUDIO_LDM", build_audio_ldm),
    "audio-ldm-2": flow("AUDIO_LDM_2", build_audio_ldm2),
}
