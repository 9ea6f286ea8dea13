"""Avatars that are drawn and encoded once, so that a step of a training costs its network alone."""

from __future__ import annotations

from pathlib import Path

import torch
from avatars import Factors, draw, sample_factors
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

AT_ONCE = 64


@torch.no_grad()
def encoded_pool(autoencoder: AutoencoderKL, n: int, file: Path, seed: int) -> tuple[Tensor, Factors]:
    """Latents ``[n, 4, S / 4, S / 4]`` of so many avatars in half precision, and their factors, kept in a file."""
    if not file.exists():
        generator = torch.Generator().manual_seed(seed)
        factors = sample_factors(generator, n)
        parts = []
        for i in tqdm(range(0, n, AT_ONCE), desc="encoding", unit="batch", mininterval=10):
            some = {name: values[i : i + AT_ONCE].to(autoencoder.device) for name, values in factors.items()}
            pixels = (draw(some, autoencoder.config.sample_size) * 255).round() / 127.5 - 1
            latents = autoencoder.encode(pixels).latent_dist.mode() * autoencoder.config.scaling_factor
            parts.append(latents.half().cpu())
        part = file.with_suffix(".part")
        save_file({"latents": torch.cat(parts).contiguous(), **factors}, part)
        part.replace(file)
    tensors = load_file(file)
    return tensors.pop("latents"), tensors
