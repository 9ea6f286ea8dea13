"""Transformers with IP-Adapters: what they get of pictures is what diffusers' own pipelines feed them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import SMALL
from family_checks import sample_error
from family_rows.given import LEFT, PHOTO
from prompted_transformers import build_prompted_chroma, build_prompted_flux, build_prompted_sd3
from small_pipeline import Small
from truth import relative

import latentjac

BUILDERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "flux": ("flux-dev", build_prompted_flux),
    "chroma": ("chroma", build_prompted_chroma),
    "sd3": ("sd3", build_prompted_sd3),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_pictures_are_those_of_diffusers_and_the_prompt_of_a_picture_counts(name: str, tmp_path: Path) -> None:
    plain, build = BUILDERS[name]
    without = SMALL[plain]
    row = Small(
        without.family,
        build,
        {"image_prompt": PHOTO},
        lambda model, noise: {**without.called(model, noise), "ip_adapter_image": PHOTO},
        size=without.size,
    )
    source = row.source(tmp_path)
    model = row.load(source)
    assert sample_error(row, source, model) < 1e-5
    x = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(1))
    t, other = torch.tensor(500.0), model.conditioning(row.prompt, image_prompt=LEFT)
    assert relative(model.eps(x, t, other), model.eps(x, t, row.conditioning(model))) > 1e-5
    with pytest.raises(ValueError, match="image_prompt or image_embedding must be given"):
        model.conditioning(row.prompt)


def test_several_adapters_get_an_embedding_each(tmp_path: Path) -> None:
    model = latentjac.load(build_prompted_flux(tmp_path, count=2), size=16)
    found = model.conditioning("a", image_prompt=[PHOTO, LEFT])
    assert {"image_embedding", "image_embedding_2"} < set(found)
    assert model.eps(torch.randn(1, *model.sample_shape), torch.tensor(500.0), found).isfinite().all()
