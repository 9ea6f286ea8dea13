"""Small networks that stand for the large ones, built here so that no test needs a download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each worker has a core, and teams of OpenMP threads slow each other down tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from devices import require_gpu
from diffusers import DDIMPipeline
from networks import build_scheduler, build_tiny_unet, point_at, rand

import latentjac


def pytest_xdist_auto_num_workers() -> int:
    """Workers of ``-n auto``: one a core, but no more than memory has room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@pytest.fixture
def tiny_model() -> latentjac.Model:
    """A float64 model on 16x16 pictures."""
    return latentjac.load(build_tiny_unet().double(), build_scheduler())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory):
    """A saved pipeline of the tiny network."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    DDIMPipeline(unet=build_tiny_unet(), scheduler=build_scheduler()).save_pretrained(folder)
    return folder


@pytest.fixture
def matmuls() -> Iterator[Any]:
    """What torch is set to for matmuls on a GPU; put back afterwards."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision  # type: ignore[attr-defined]
    yield settings
    settings.fp32_precision = before  # type: ignore[attr-defined]


@pytest.fixture
def tiny_point(tiny_model: latentjac.Model) -> latentjac.Point:
    """A noisy float64 sample in the middle of a 10-step grid."""
    return point_at(rand(1, 3, 16, 16))


@pytest.fixture
def gpu() -> torch.device:
    """The GPU of tests marked ``cuda``."""
    return require_gpu(torch.cuda.is_available())
