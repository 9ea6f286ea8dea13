"""Teach a :class:`FactorReader` on drawn avatars, and measure how well it reads new ones."""

from __future__ import annotations

import math

import torch
from avatars import BY_NAME, FACTORS, Factors, draw, sample_factors
from torch import Tensor, nn
from tqdm import trange

from factors.reader import FactorReader, Readings

# Squared errors on [-1, 1] are small beside cross-entropies, and the values matter as much as the categories.
WEIGHT_OF_VALUES = 3.0
RATE = 2e-3
# Drawings with seeds from here on are never trained on.
HELD_OUT_SEED = 1 << 40


def drawings(n: int, seed: int, size: int = 64, chunk: int = 64) -> tuple[Factors, Tensor]:
    """Factors, and pictures ``[n, 3, size, size]`` of them."""
    factors = sample_factors(torch.Generator().manual_seed(seed), n)
    parts = [draw({k: v[i : i + chunk] for k, v in factors.items()}, size) for i in range(0, n, chunk)]
    return factors, torch.cat(parts)


def roughen(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blur and noise of random strength, as samples of a diffusion model may show them."""
    n = len(pictures)
    blur, noise = (torch.rand(n, 1, 1, 1, generator=generator) ** 2 for _ in range(2))
    soft = nn.functional.avg_pool2d(nn.functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    grain = torch.randn(pictures.shape, generator=generator)
    return torch.lerp(pictures, soft, blur) + 0.06 * noise * grain


def loss_of(raw: Readings, factors: Factors) -> Tensor:
    """Squared errors of values plus cross-entropies of the rest."""
    total = torch.zeros(())
    for factor in FACTORS:
        predicted, true = raw[factor.name], factors[factor.name]
        if factor.kind == "continuous":
            scaled = 2 * (true - factor.low) / (factor.high - factor.low) - 1
            total = total + WEIGHT_OF_VALUES * nn.functional.mse_loss(predicted, scaled)
        elif factor.choices:
            total = total + nn.functional.cross_entropy(predicted, true)
        else:
            total = total + nn.functional.binary_cross_entropy_with_logits(predicted, true)
    return total


def train_reader(
    images: int = 50_000, *, batch: int = 32, size: int = 64, seed: int = 0, progress: bool = False
) -> FactorReader:
    """Train a reader on avatars that are drawn as it goes.

    Args:
        images: How many avatars to see; each is seen once.
        batch: Avatars per update.
        size: Side of the pictures.
        seed: Decides weights and drawings.
        progress: Show a progress bar.

    Raises:
        ValueError: If there is not one batch of images.
    """
    if images < batch:
        raise ValueError(f"train_reader: images must be at least one batch of {batch}, got {images}")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FactorReader(size)
    steps = images // batch
    optimizer = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=0.01)
    bar = trange(steps, desc="reader", unit="step", disable=not progress)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        factors = sample_factors(generator, batch)
        loss = loss_of(reader(roughen(draw(factors, size), generator)), factors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return reader.eval()


def scores(readings: Readings, factors: Factors) -> dict[str, dict[str, float]]:
    """How well each factor is read, beside what a reader that never looks would reach.

    Returns:
        For continuous factors ``r2``, the share of the variance that is explained, and ``error``, the root mean square
        error in units of the factor; for the others ``accuracy`` and ``chance``, that of always naming the commonest.
    """
    return {name: _score(name, readings[name], true) for name, true in factors.items()}


def _score(name: str, read: Tensor, true: Tensor) -> dict[str, float]:
    factor = BY_NAME[name]
    if factor.kind == "continuous":
        error = (read - true).square().mean()
        return {
            "r2": round(1 - (error / true.var(correction=0)).item(), 4),
            "error": round(error.sqrt().item(), 4),
        }
    named = read.argmax(1) if factor.choices else (read > 0.5).long()
    return {
        "accuracy": round((named == true.long()).float().mean().item(), 4),
        "chance": round((true.long().bincount().max() / len(true)).item(), 4),
    }
