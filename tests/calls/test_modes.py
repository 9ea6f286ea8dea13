"""What surrounds a call changes nothing of its result: autocast, inference mode, default types and devices of torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from calls.baselines import BASELINES
from calls.sweep import different, invoke
from calls.things import Things

OTHERS = ("latentjac.kernels", "latentjac.report")  # kernels are for plain tensors, reports compute nothing


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def strict_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"[\w.]+: out of passes ")  # of a tight budget
        warnings.filterwarnings("ignore", "invert: picture 0: the way back leads to another")  # of one step
        yield


MODES: dict[str, Callable] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "deterministic": deterministic,
    "strict warnings": strict_warnings,
}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("modes"))


@pytest.fixture(scope="module")
def expected(things: Things) -> dict[str, Any]:
    """Results of the cases outside of all modes."""
    calls = {key: baseline(things) for key, baseline in BASELINES.items()}
    return {
        key: None if key.endswith(".run") else invoke(function, arguments)
        for key, (function, arguments) in calls.items()
        if not function.__module__.startswith(OTHERS)
    }


@pytest.mark.parametrize("mode", MODES)
def test_results_are_the_same(things: Things, expected: dict[str, Any], mode: str) -> None:
    wrong = []
    for key, outcome in expected.items():
        if key.endswith(".run") and mode != "default device":  # elsewhere it is what its parts are
            continue
        function, arguments = BASELINES[key](things)
        with MODES[mode]():
            result = invoke(function, arguments)
        # The block size of a study's bases depends on measured times.
        if outcome is not None and (where := different(result, outcome)):
            wrong.append(f"{key}: {where}")
    assert not wrong
