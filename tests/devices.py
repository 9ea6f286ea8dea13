"""Where tests compute: the GPU, and numbers of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


def require_gpu(usable: bool, what: str = "GPU") -> torch.device:
    """The first GPU; without a usable one skip, or fail where LATENTJAC_REQUIRE_CUDA=1 says that there is one."""
    if usable:
        return torch.device("cuda", 0)
    if os.environ.get("LATENTJAC_REQUIRE_CUDA") == "1":
        pytest.fail(f"LATENTJAC_REQUIRE_CUDA=1, but no {what} is available")
    pytest.skip(f"no {what} is available")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_threads(run: Callable[[], Any], counts: tuple[int, ...] = (1, 2, 3)) -> list[Any]:
    """What a call gives with each number of threads."""
    results = []
    for count in counts:
        with threads(count):
            results.append(run())
    return results
