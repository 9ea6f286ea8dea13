"""The hot paths under pytest-benchmark, for watching them from commit to commit.

    python -m pytest benchmarks --benchmark-autosave
    python -m pytest benchmarks --benchmark-compare --benchmark-compare-fail=median:20%

Ratios against limits and peers are the business of the bench_*.py scripts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import latentjac
from latentjac.diffusion import DDIM, Own

PHOTO = Path(latentjac.__file__).parent / "assets" / "face.jpg"


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    return latentjac.load("faces")


@pytest.fixture(scope="module")
def point(model: latentjac.Model) -> latentjac.Point:
    return latentjac.invert(model, PHOTO, 10, grid=Own(), solver=DDIM(0)).at(0.6)


@pytest.fixture(scope="module", params=["program", "autodiff"])
def lin(request: pytest.FixtureRequest, model: latentjac.Model, point: latentjac.Point) -> latentjac.Linearization:
    return latentjac.linearize(
        model.feature_map("mid"), point.sample, torch.tensor(point.timestep), backend=request.param
    )


def test_forward(benchmark: Callable, model: latentjac.Model, point: latentjac.Point) -> None:
    with torch.no_grad():
        eps = benchmark(model.eps, point.sample, torch.tensor(point.timestep))
    assert eps.shape == point.sample.shape


def test_tangent_pass(benchmark: Callable, lin: latentjac.Linearization) -> None:
    out = benchmark(lin.jvp, torch.randn(8, *lin.x.shape))
    assert out.shape == (8, *lin.y.shape)


def test_cotangent_pass(benchmark: Callable, lin: latentjac.Linearization) -> None:
    out = benchmark(lin.vjp, torch.randn(8, *lin.y.shape))
    assert out.shape == (8, *lin.x.shape)


def test_basis(benchmark: Callable, lin: latentjac.Linearization) -> None:
    basis = benchmark(latentjac.svd, lin, 5, 1e-2)
    assert basis.residuals.max() <= 1e-2
