"""Limits around calls: time, memory, a wish to stop, and progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from calls.baselines import BASELINES
from calls.sweep import different, invoke
from calls.things import Things
from networks import rand
from solvers.matrices import SPECTRA, with_spectrum

import latentjac
from latentjac import StoppedError, limits, stopping
from latentjac.solvers import Krylov
from latentjac.stopping import Progress

# Calls that run a network or take passes of an operator, on each way that there is.
RUNNING = (
    "invert", "invert/text", "sample", "edit", "edit/geodesic", "edit/h-space", "edit/mask", "edit/park2023",
    "local_basis", "basis_path", "masked_basis", "null_space", "measure_linearity", "walk_frames", "park2023.invert",
    "park2023.local_basis", "svd", "svd/subspace", "effective_rank", "denoise", "predict", "Linearization.jvp",
    "Linearization.vjp", "pullback_inner", "coarse-to-fine.run",
)  # fmt: skip
LOOPS = {"invert": "inversion", "sample": "sampling", "edit": "edit", "local_basis": "svd", "basis_path": "basis path"}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("stopping"))


@pytest.mark.parametrize("key", RUNNING)
def test_whatever_runs_is_stopped_and_runs_again_as_before(things: Things, key: str) -> None:
    function, arguments = BASELINES[key](things)
    looks = 0

    def stop() -> bool:
        nonlocal looks
        looks += 1
        return looks > 2

    expected = None if key.endswith(".run") else invoke(function, arguments)
    with pytest.raises(StoppedError, match="limits: stop returned true"), limits(stop=lambda: True):
        invoke(function, BASELINES[key](things)[1])
    try:
        with limits(stop=stop):
            invoke(function, BASELINES[key](things)[1])
    except StoppedError:
        assert looks == 3
    else:
        assert looks <= 2
    if expected is not None:
        function, arguments = BASELINES[key](things)
        assert not different(invoke(function, arguments), expected)


def test_an_event_ends_a_call_from_another_thread() -> None:
    operator, event = with_spectrum(SPECTRA["exponential"]), threading.Event()
    passed, went_on = threading.Event(), threading.Event()
    forward = operator.jvp

    def slow(v: torch.Tensor) -> torch.Tensor:
        passed.set()
        assert went_on.wait(10)
        return forward(v)

    operator.jvp = slow  # type: ignore[method-assign]

    def work() -> latentjac.LocalBasis:
        with limits(stop=event.is_set):
            return latentjac.svd(operator, 8)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        assert passed.wait(10)
        event.set()
        went_on.set()
        with pytest.raises(StoppedError):
            future.result(10)
    operator.jvp = forward  # type: ignore[method-assign]
    assert latentjac.svd(operator, 8).status.fine


def test_time_over_names_the_limit_and_the_tightest_block_holds() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    with limits(max_seconds=1e-9), limits(max_seconds=1000):
        with pytest.raises(StoppedError, match="limits: max_seconds=1e-09 are over"):
            latentjac.svd(operator, 2)
    with limits(max_seconds=1000):
        assert latentjac.svd(operator, 2).status.fine


def test_one_block_is_entered_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a program that makes its limits once: again, inside itself, as a decorator, by several threads."""
    operator, wanted, clock = with_spectrum(SPECTRA["power law"]), [False], [0.0]
    monkeypatch.setattr(stopping, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    block = limits(max_seconds=0.5, stop=lambda: wanted[0])
    bounded = block(lambda: latentjac.svd(operator, 2).status.fine)  # type: ignore[operator]

    def stopped() -> bool:
        with pytest.raises(StoppedError), block:
            latentjac.svd(operator, 2)
        return True

    with block, block:
        clock[0] += 0.5
        with pytest.raises(StoppedError, match=r"max_seconds=0\.5 are over"):
            latentjac.svd(operator, 2)
    assert bounded()  # its time begins with each block
    wanted[0] = True
    with ThreadPoolExecutor(4) as pool:
        assert all(future.result() for future in [pool.submit(stopped) for _ in range(8)])
    assert latentjac.svd(operator, 2).status.fine


def test_blocks_may_be_left_in_another_order_or_place() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    first, second = limits(stop=lambda: True), limits(max_seconds=1000)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert latentjac.svd(operator, 2).status.fine
    first.__enter__()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(first.__exit__, None, None, None).result()
    with pytest.raises(StoppedError):
        latentjac.svd(operator, 2)
    first.__exit__(None, None, None)
    assert latentjac.svd(operator, 2).status.fine


def test_threads_have_limits_of_their_own() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    with limits(stop=lambda: True), ThreadPoolExecutor(1) as pool:
        assert pool.submit(latentjac.svd, operator, 2).result().status.fine


@pytest.mark.parametrize("key", LOOPS)
def test_progress_goes_to_the_end(things: Things, key: str) -> None:
    heard: list[Progress] = []
    function, arguments = BASELINES[key](things)
    with limits(progress=heard.append):
        invoke(function, arguments)
    steps = [step for step in heard if step.what == LOOPS[key]]
    assert steps
    assert steps[-1].done == steps[-1].total
    assert all(a.done <= b.done and a.total == b.total for a, b in pairwise(steps))


def test_an_error_of_the_callback_ends_the_call(things: Things) -> None:
    function, arguments = BASELINES["invert"](things)
    with pytest.raises(ZeroDivisionError), limits(progress=lambda step: 1 // 0):
        invoke(function, arguments)


def test_bases_beyond_the_memory_are_refused_before_they_are_made() -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    allowed = 2 * 8 * (2 * 42 * (320 + 260) + 2 * 260)  # 40 rows and a block, of both bases and their products
    solver = Krylov(block_size=2)
    with limits(max_memory=allowed):
        latentjac.svd(operator, 2, solver=solver)
    calls = len(operator.vectors)
    with limits(max_memory=allowed - 2), pytest.raises(MemoryError, match=r"svd: k must be smaller with limits"):
        latentjac.svd(operator, 2, solver=solver)
    assert len(operator.vectors) == calls


def test_passes_take_fewer_probes_at_once() -> None:
    lin = latentjac.linearize(lambda x: torch.tanh(x @ WEIGHT), rand(1, 64), backend="program")
    sizes: list[int] = []
    tangent: Callable[..., Any] = lin.engine.passes.tangent
    lin.engine.passes.tangent = lambda probes: (sizes.append(len(probes)), tangent(probes))[1]
    v = rand(12, 1, 64)
    whole = lin.jvp(v)
    with limits(max_memory=2 * 4 * lin.program.live_bytes):
        parts = lin.jvp(v)
    assert sizes == [12, 4, 4, 4]
    torch.testing.assert_close(parts, whole)


WEIGHT = rand(64, 64, seed=7)


def test_a_run_of_many_items_ends(things: Things, tmp_path: Path) -> None:
    """A limit is no fault of an item."""
    from latentjac.batch.compute import _results, is_of_device

    class Stopping:
        def run(self, model: Any, works: Any) -> Any:
            raise StoppedError("limits: stop returned true")

    assert not is_of_device(StoppedError("limits"))
    with pytest.raises(StoppedError):
        _results(things.model, Stopping(), [])  # type: ignore[arg-type]
