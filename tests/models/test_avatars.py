"""The built-in model of drawn avatars."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avatars import draw, sample_factors
from factors.measures import as_factors, psnr
from factors.reader import FactorReader

import latentjac
from latentjac import models

FOLDER = Path(models.__file__).parent / "builtin" / "avatars"


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load("avatars")


@pytest.fixture(scope="module")
def reader() -> FactorReader:
    return FactorReader.load(FOLDER / "reader.safetensors")


def test_a_drawing_comes_back(model) -> None:
    pictures = draw(sample_factors(torch.Generator().manual_seed(5), 2))
    assert min(latentjac.invert(model, pictures, 20).psnr) >= 30


def test_samples_are_avatars(model, reader) -> None:
    """Drawn again from the factors that are read off them, samples look alike; other avatars do not."""
    generator = torch.Generator().manual_seed(3)
    pictures = latentjac.sample(model, num_images=4, num_inference_steps=12, generator=generator, output_type="pt")
    redrawn = draw(as_factors(reader.read(pictures)))
    assert psnr(pictures, redrawn).median() > psnr(pictures, redrawn.roll(1, 0)).median() + 5


def test_the_card_says_where_the_weights_began() -> None:
    assert "started from the weights of `faces`" in (FOLDER / "README.md").read_text()
