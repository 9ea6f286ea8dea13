"""Children of forks compute, whatever other threads of the parent were doing."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from networks import build_scheduler, build_shallow_unet

import latentjac
from latentjac.forkable import ForkableLock
from latentjac.linearization.engine import Engine

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(work: Callable[[], bool], seconds: float = 60) -> str:
    """What becomes of work in a child: ``"done"``, ``"wrong"`` or ``"waits forever"``."""
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(seconds - 5, exit=True)
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "wrong" if status else "done"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "waits forever"


@contextmanager
def held(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Iterator[None]:
    """Another thread is inside a method, at work, for as long as the block lasts."""
    inside, go_on, method = threading.Event(), threading.Event(), getattr(owner, name)
    main = threading.current_thread()

    def slow(*given: Any, **named: Any) -> Any:
        if threading.current_thread() is not main:
            inside.set()
            assert go_on.wait(120)
        return method(*given, **named)

    monkeypatch.setattr(owner, name, slow)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert inside.wait(30)
        yield
    finally:
        go_on.set()
        thread.join(60)


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return latentjac.load(build_shallow_unet(), build_scheduler())


# What the other thread is doing: a pass, a copy of a trace, the first trace of a model.
@pytest.mark.parametrize(("owner", "name"), [(Engine, "apply"), (Engine, "primal"), (Engine, "trace")])
def test_another_thread_computes_with_the_same_model(
    model: latentjac.Model, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    point = latentjac.noise_point(model, generator=torch.Generator().manual_seed(0))

    def basis() -> torch.Tensor:
        return latentjac.local_basis(model, point, 1, tol=0.1).v

    fresh = latentjac.load(model.network, model.scheduler)
    expected = basis()
    others = fresh if name == "trace" else model
    with held(owner, name, monkeypatch, lambda: latentjac.local_basis(others, point, 1, tol=0.1)):
        assert in_child(lambda: torch.equal(basis(), expected)) == "done"
    assert torch.equal(basis(), expected)


def test_a_linearization_that_another_thread_was_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes back to where it was before its next pass."""
    x, other = torch.rand(2, 1, 5, generator=torch.Generator().manual_seed(0))
    lin = latentjac.linearize(lambda x: x.sin() * x.exp(), x[None])
    probes = torch.ones(1, 1, 1, 5)
    expected = lin.jvp(probes)
    with held(Engine, "primal", monkeypatch, lambda: lin.rebase(other[None])):
        assert in_child(lambda: torch.equal(lin.jvp(probes), expected)) == "done"


def test_a_lock_is_free_in_a_child_unless_its_thread_lives_on() -> None:
    lost: list[int] = []
    lock = ForkableLock(lambda: lost.append(1))
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            entered.set()
            assert go_on.wait(60)

    def takes(count: int) -> bool:
        with lock, lock:
            return len(lost) == count

    assert in_child(lambda: takes(0)) == "done"
    with lock:
        assert in_child(lambda: takes(0)) == "done"
    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(30)
    assert in_child(lambda: takes(1)) == "done"
    go_on.set()
    thread.join(30)
    assert takes(0)
