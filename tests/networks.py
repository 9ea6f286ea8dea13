"""Builders of the small networks that tests use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, UNet2DModel

import latentjac
from latentjac.diffusion import Schedule
from latentjac.models import Conditioning


def build_tiny_unet(
    seed: int = 0, size: int | tuple[int, int] = 16, in_channels: int = 3, **options: object
) -> UNet2DModel:
    """Three resolutions with attention and a mid block, random weights."""
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=size,
        in_channels=in_channels,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
        **options,
    ).eval()


def build_shallow_unet(size: int | tuple[int, int] = 8, **options: object) -> UNet2DModel:
    """One resolution and a mid block with attention, a third of the operators: for tests that trace many networks."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=size,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        attention_head_dim=4,
        norm_num_groups=4,
        **options,
    ).eval()


def build_text_unet(**options: object) -> UNet2DConditionModel:
    """Two resolutions, a text of width 6 attended to at the finer one, random weights."""
    torch.manual_seed(0)
    defaults = dict(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=6,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    return UNet2DConditionModel(**{**defaults, **options}).eval()


def build_scheduler(**options: object) -> DDIMScheduler:
    """The schedule of the built-in models."""
    defaults = {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "trailing"}
    return DDIMScheduler(num_train_timesteps=1000, **{**defaults, **options})


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    """Repeatable float64 normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def point_at(sample: torch.Tensor, timestep: int = 599, steps: int = 10, **more: Any) -> latentjac.Point:
    """A point at a timestep of the levels of so many steps, by default of the built-in models' schedule."""
    schedule = Schedule.from_scheduler(more.pop("scheduler", None) or build_scheduler(), steps)
    level = schedule.timesteps.index(timestep, 1)
    return latentjac.Point(sample, level, schedule, **more)


@torch.no_grad()
def randomize(net: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: networks start with zeros in places, which would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    net = net.double().eval().requires_grad_(False)
    for parameter in net.parameters():
        spread = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * spread)
    return net


def few_tokens(conditioning: Conditioning, most: int = 8) -> Conditioning:
    """The same with texts that are cut off: padding to hundreds of tokens is most of the work of a small network.

    One with texts of two encoders stays as it is: its network may know their numbers of tokens.
    """
    if "text_2" in conditioning:
        return conditioning
    guidance = conditioning.guidance
    if guidance is not None:
        guidance = replace(guidance, negative=_cut_off(guidance.negative, most))
    return Conditioning(_cut_off(conditioning, most), guidance)


def _cut_off(conditioning: Conditioning, most: int) -> Conditioning:
    return Conditioning({
        name: tensor[:, :most] if name.startswith("text") and tensor.ndim > 1 else tensor
        for name, tensor in conditioning.items()
    })  # fmt: skip
