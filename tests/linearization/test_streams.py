"""Linearizations that work at the same time, in one thread or in two, and the order of work on several streams."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from networks import build_tiny_unet, rand

from latentjac.linearization import ProgramLinearization
from latentjac.linearization.streams import StreamOrder
from latentjac.models.layers import Tap

Tensor = torch.Tensor


class Stream:
    """Notes what is queued on it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        self.log.append(f"{self.name} marks")
        return f"{self.name}{len(self.log)}"


def test_work_waits_for_the_turns_before_and_memory_for_its_users() -> None:
    log: list[str] = []
    home, other = Stream("home", log), Stream("other", log)
    streams = iter([home, home, other, home])  # the first is asked for when the order is made
    order = StreamOrder(lambda: next(streams))
    for work in ("primal", "pass", "rebase"):
        with order.turn():
            log.append(work)
    assert log == [
        "primal",
        "home marks",
        "other waits for home2",
        "pass",
        "other marks",
        "home waits for other5",  # what the pass read was allocated there
        "home waits for other5",
        "rebase",
        "home marks",
        "other waits for home9",  # what was freed may have been allocated there
    ]


def test_a_turn_ends_when_its_work_fails() -> None:
    log: list[str] = []
    stream = Stream("home", log)
    order = StreamOrder(lambda: stream)
    with pytest.raises(ValueError, match="bad probes"), order.turn():
        raise ValueError("bad probes")
    with ThreadPoolExecutor(1) as pool:  # another thread gets its turn

        def work() -> None:
            with order.turn():
                log.append("work")

        pool.submit(work).result(timeout=10)
    assert log == ["home marks", "home waits for home1", "work", "home marks"]


def linearizations() -> list[ProgramLinearization]:
    """Two of one network, at different points and times."""
    net = build_tiny_unet().requires_grad_(False)
    return [
        ProgramLinearization(Tap(net, "mid_block"), rand(2, 3, 16, 16, seed=i).float(), torch.tensor(100 + 500 * i))
        for i in (1, 0)
    ]


def work(lin: ProgramLinearization) -> Iterator[Tensor]:
    """Results at three base points, one after the other."""
    for turn in range(3):
        yield lin.y
        yield lin.jvp(rand(5, *lin.x.shape).float())
        yield lin.vjp(rand(3, *lin.y.shape).float())
        lin.rebase(lin.x * 0.9, torch.tensor(300 + turn))


@pytest.mark.parametrize("threads", [1, 2])
def test_two_give_together_the_bits_that_each_gives_alone(threads: int) -> None:
    alone = [list(work(lin)) for lin in linearizations()]
    if threads == 1:
        together = list(zip(*zip(*map(work, linearizations()), strict=True), strict=True))
    else:
        with ThreadPoolExecutor(threads) as pool:
            together = list(pool.map(lambda lin: list(work(lin)), linearizations()))
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(s, t) for s, t in zip(a, b, strict=True))
