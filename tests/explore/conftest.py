"""A small model of random weights for the explorer, and photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac
from latentjac.explore import Shared


@pytest.fixture(scope="session")
def model() -> latentjac.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return latentjac.load(build_shallow_unet(), build_scheduler())


@pytest.fixture
def shared(model: latentjac.Model, tmp_path: Path) -> Shared:
    return Shared(model, steps=4, folder=tmp_path)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than tall: only a part of it is used."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "a photo.png"
    Image.fromarray(pixels).save(path)
    return path
