"""Every measure on a GPU gives what it gives on the CPU, and stays there."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
import torch
from geometry.maps import spiral
from geometry.subspaces import basis_of
from networks import rand

import latentjac as lj
from latentjac import geometry as g

SOURCE, TARGET = (basis_of(*(rand(9, 8, seed=3 * i + j) for i in range(3)), k=3, x=(2, 4)) for j in (0, 1))
MEASURES = {
    "norm": lambda to: lj.geometry.pullback_norm(to(SOURCE), to(rand(2, 2, 4))),
    "angles": lambda to: lj.geometry.subspace_distance(to(SOURCE), to(TARGET)),
    "pairs": lambda to: g.pairwise_distances(to(SOURCE)),
    "spectrum": lambda to: lj.geometry.power_spectrum(to(rand(2, 3, 8, 8))),
    "linearity": lambda to: lj.geometry.feature_linearity(
        lj.geometry.FeatureMap(spiral), to(rand(2, 3)), to(rand(2, 3)), (0.1, 1.0)
    ),
    "curvature": lambda to: lj.geometry.direction_curvature(
        lj.geometry.FeatureMap(spiral), to(rand(2, 3)), to(rand(2, 3))
    ),
    "path": lambda to: lj.geometry.measure_path(lj.geometry.FeatureMap(spiral), to(rand(4, 3))),
    "transport": lambda to: lj.geometry.parallel_transport(to(SOURCE.v), to(SOURCE), to(TARGET), "pseudoinverse", 0.1),
    "frechet": lambda to: lj.geometry.frechet_mean(to(SOURCE)).distances,
    "global": lambda to: lj.geometry.global_directions(to(SOURCE), "matched"),
    "components": lambda to: lj.geometry.principal_components(to(rand(6, 5)), 2),
    "interval": lambda to: g.sample_mean(to(rand(30, 2)), "bootstrap"),
}


@pytest.mark.cuda
@pytest.mark.parametrize("name", MEASURES)
def test_on_a_gpu(gpu: torch.device, name: str) -> None:
    there, here = (MEASURES[name](lambda value, d=device: value.to(d)) for device in (gpu, "cpu"))
    compare(there, here)


def compare(there: object, here: object) -> None:
    if is_dataclass(there):
        for field in fields(there):
            compare(getattr(there, field.name), getattr(here, field.name))
    elif isinstance(there, torch.Tensor):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, rtol=1e-7, atol=1e-7)
    else:
        assert there == pytest.approx(here)
