"""Small networks that stand for the large ones, built here so that no test needs a download."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each worker has a core, and teams of OpenMP threads slow each other down tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Imports and traces set off Python's search for garbage often.
    gc.set_threshold(50_000, 10, 10)

import torch
from devices import require_gpu
from diffusers import DDIMPipeline
from networks import build_scheduler, build_tiny_unet, point_at, rand

import latentjac
from latentjac.linearization.changes import structure


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist, too
def pytest_xdist_auto_num_workers() -> int:
    """Workers of ``-n auto``: one a core, but no more than memory has room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Of several workers, each takes tests that lie side by side: what a module makes and traces is not made twice."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_collection_finish() -> None:
    """Leave what has been imported out of Python's search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_tutorial.py", "test_sanitizers.py"))


@pytest.fixture
def own_model() -> latentjac.Model:
    """A float64 model on 16x16 pictures, for tests that change it or look at how it is traced."""
    return latentjac.load(build_tiny_unet().double(), build_scheduler())


@pytest.fixture(scope="session")
def traced_model() -> latentjac.Model:
    """Behind tiny_model: what one test had traced, others find."""
    return latentjac.load(build_tiny_unet().double(), build_scheduler())


@pytest.fixture
def tiny_model(traced_model: latentjac.Model) -> Iterator[latentjac.Model]:
    """As own_model, shared by tests, which leave it as it was."""
    torch.manual_seed(0)
    network = traced_model.network
    before = traced_model.identity(), structure([network])
    yield traced_model
    assert (traced_model.identity(), structure([network])) == before, "a test that changes its model takes own_model"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AbstractContextManager[Path]]:
    """Enters a folder that all workers share, one at a time: what takes long to build is built there once."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    @contextmanager
    def entered(name: str) -> Iterator[Path]:
        folder = common / name
        folder.mkdir(exist_ok=True)
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder

    return entered


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
