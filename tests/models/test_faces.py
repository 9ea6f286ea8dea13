"""The built-in face model on the photo that ships with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import latentjac
from latentjac import models
from latentjac.diffusion import DDIM, Own

PHOTO = Path(latentjac.__file__).parent / "assets" / "face.jpg"
FOLDER = Path(models.__file__).parent / "builtin" / "faces"


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load("faces")


def test_a_real_face_comes_back(model) -> None:
    assert latentjac.invert(model, PHOTO, 30, grid=Own(), solver=DDIM(0)).psnr[0] >= 25


def test_a_face_comes_back_from_few_evaluations(model) -> None:
    path = latentjac.invert(model, PHOTO, 12, t=0.7)
    assert path.evaluations == 12
    assert path.psnr[0] >= 44


def test_refinement_helps(model) -> None:
    rough, fine = (latentjac.invert(model, PHOTO, 10, grid=Own(), solver=DDIM(r)) for r in (0, 2))
    assert fine.psnr[0] > rough.psnr[0]


def test_the_card_names_the_data_and_the_share_of_faces() -> None:
    quality = json.loads((FOLDER / "quality.json").read_text())
    card = " ".join((FOLDER / "README.md").read_text().split())
    assert "CC BY 4.0" in card
    assert f"{quality['face_found_in_samples']:.1%}" in card
