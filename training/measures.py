"""What the evaluations of all built-in models share: samples, controls, distances, and the card they fill."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import latentjac
from latentjac.files import write_bytes


def draw_samples(model: latentjac.Model, n: int, steps: int, seed: int) -> np.ndarray:
    """RGB samples ``[n, S, S, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    images = latentjac.sample(
        model, num_images=n, num_inference_steps=steps, generator=generator, output_type="np", progress=True
    )
    return (images * 255).round().astype(np.uint8)


def shuffled_tiles(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images cut into 4 x 4 tiles in random order: the same textures without a face."""
    n, size = len(images), images.shape[1] // 4
    tiles = images.reshape(n, 4, size, 4, size, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, 16, size, size, 3)
    mixed = np.stack([t[rng.permutation(16)] for t in tiles])
    return mixed.reshape(n, 4, 4, size, size, 3).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two Gaussians fitted to features ``[N, D]`` (Heusel et al. 2017)."""
    difference = a.mean(0) - b.mean(0)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values = np.linalg.eigvals(first @ second)
    root = np.sqrt(np.clip(values.real, 0, None)).sum()
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * root)


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """The first images as one picture, without any choice among them."""
    rows = len(images) // columns
    grid = images[: rows * columns].reshape(rows, columns, *images.shape[1:])
    return Image.fromarray(grid.transpose(0, 2, 1, 3, 4).reshape(rows * images.shape[1], -1, 3))


def fill_card(card: Path, lines: Sequence[str], marker: str = "quality") -> None:
    """Put lines between two markers of a model card."""
    block = "\n".join([f"<!-- {marker} -->", *lines, f"<!-- /{marker} -->"])
    pattern = f"<!-- {marker} -->.*<!-- /{marker} -->"
    write_bytes(card, re.sub(pattern, lambda _: block, card.read_text(), flags=re.DOTALL).encode())
