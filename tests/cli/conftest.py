"""What commands open: a small network, which each of them reads and traces anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import DDIMPipeline
from networks import build_scheduler, build_shallow_unet


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline for pictures of 16x16."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    DDIMPipeline(unet=build_shallow_unet(16), scheduler=build_scheduler()).save_pretrained(folder)
    return folder
