"""Every family on a GPU gives what it gives on the CPU, in float64: samples, ways to noise, bases and edits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import SMALL
from family_checks import METHODS, inverted
from small_pipeline import STEPS
from truth import relative

import latentjac

# Some networks compute norms or embeddings in float32, whatever they are given.
_MOST = 1e-4


@pytest.mark.cuda
@pytest.mark.parametrize("name", SMALL)
def test_what_a_gpu_gives_is_what_the_cpu_gives(name: str, gpu: torch.device, tmp_path: Path) -> None:
    row = SMALL[name]
    models = [
        row.load(row.source(tmp_path / place.type), dtype=torch.float64, device=place)
        for place in (torch.device("cpu"), gpu)
    ]
    assert models[1].device == gpu
    here, there = (results(row, model) for model in models)
    for what, expected in here.items():
        found = there[what]
        assert found.device == gpu, what
        assert relative(found.cpu(), expected) < _MOST, what


def results(row: Any, model: latentjac.Model) -> dict[str, torch.Tensor]:
    """What a model gives where it is, from the same noise and along the same directions."""
    conditioning = row.conditioning(model, row.scale)
    point = latentjac.noise_point(model, num_inference_steps=STEPS, conditioning=conditioning)
    noise = torch.randn(point.sample.shape, generator=torch.Generator().manual_seed(1)).to(point.sample)
    path = inverted(row, model)
    found = {
        "sample": latentjac.sample(model, replace(point, sample=noise), output_type="latent"),
        "noisy sample": path.at(0.6).sample,
    }
    point, tol = replace(path.at(0.6), conditioning=conditioning), max(row.tol, 1e-6)
    for layer in ("mid", "eps"):
        found[f"values of {layer}"] = latentjac.local_basis(model, point, 2, layer, tol=tol).s
    basis = latentjac.local_basis(model, point, 1, tol=tol)
    # Directions have no sign of their own.
    sign = torch.sign((basis.v * noise).sum())
    for method in METHODS[:2] + METHODS[3:]:
        direction = (basis.u if method.in_features else basis.v)[0] * sign
        found[type(method).__name__] = latentjac.edit(model, point, direction, [0.0, 1.0], method=method).samples
    return found
