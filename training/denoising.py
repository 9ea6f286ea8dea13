"""The loss of all diffusion networks here."""

from __future__ import annotations

from collections.abc import Callable

import torch


def draw_timesteps(n: int, device: torch.device) -> torch.Tensor:
    """Uniform timesteps, one from each of n strata: the loss of a batch varies less."""
    u = (torch.arange(n, device=device) + torch.rand(n, device=device)) / n
    return (u * 1000).long().clamp_(max=999)[torch.randperm(n, device=device)]


def denoising_loss(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """Weighted loss of v-predictions.

    Args:
        predict: From noisy samples ``[B, C, H, W]`` and timesteps ``[B]`` to predictions in the samples' shape.
        x: Clean samples ``[B, C, H, W]``.
        alphas: ``alphas_cumprod`` of the schedule on the device of x.
    """
    t = draw_timesteps(len(x), x.device)
    a = alphas[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(x)
    noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    # v-prediction (Salimans & Ho 2022): at high noise the network gives the image itself. A network that gives
    # the noise has its errors of mean colour amplified there by 1 / sqrt(a), and needs long training to lose them.
    target = a.sqrt() * noise - (1 - a).sqrt() * x
    # Min-SNR weights (Hang et al. 2023) with a floor, so that the last steps still learn fine detail.
    weight = (5 * (1 - a)).clamp(0.1, 1.0)
    return (weight * (predict(noisy, t).float() - target) ** 2).mean()
