"""The face photos as one uint8 tensor, with a fixed split that training never crosses."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# Every 20th file is held out: inversion tables, Fréchet distances and the demo photo use only those.
HOLD_OUT_EVERY = 20


def load_faces(archive: Path, split: str, size: int = 64) -> torch.Tensor:
    """Read one split of the archive.

    Args:
        archive: Zip of JPEG files named ``NNNNN.jpg``, square.
        split: ``"train"``, ``"held-out"`` or ``"all"``.
        size: Side of the returned images in pixels.

    Returns:
        uint8 tensor ``[N, 3, size, size]`` in file-name order.

    Raises:
        ValueError: If the split is unknown or the archive has no images.
    """
    if split not in ("train", "held-out", "all"):
        raise ValueError(f"load_faces: split must be 'train', 'held-out' or 'all', got {split!r}")
    images = []
    with zipfile.ZipFile(archive) as z:
        names = sorted(n for n in z.namelist() if n.lower().endswith(".jpg"))
        for name in names:
            held_out = int(Path(name).stem) % HOLD_OUT_EVERY == 0
            if split != "all" and held_out != (split == "held-out"):
                continue
            image = Image.open(io.BytesIO(z.read(name))).convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BOX)
            images.append(np.asarray(image))
    if not images:
        raise ValueError(f"load_faces: archive must hold NNNNN.jpg files of split {split!r}, got none")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
