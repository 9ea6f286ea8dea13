"""Work in a thread: progress, turns, a wish to stop, and errors as sentences."""

from __future__ import annotations

import threading

import pytest

from latentjac import stopping
from latentjac.explore.jobs import Job, sentence
from latentjac.explore.state import Shared
from latentjac.explore.visitors import Visitors


def test_progress_is_told_and_a_stop_is_obeyed() -> None:
    reached, go_on = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        job.begin("counting")
        for step in stopping.Bar("anything", range(5), shown=False):
            if step == 2:
                reached.set()
                go_on.wait(10)
            stopping.check()

    job = Job("waiting", work, threading.Lock()).start()
    assert reached.wait(10)
    assert (job.report.stage, job.report.done, job.report.total) == ("counting", 2, 5)
    job.stop()
    go_on.set()
    assert job.join(10)
    assert job.stopped
    assert not job.error


def test_one_at_a_time() -> None:
    turn, order = threading.Lock(), []
    with turn:
        job = Job("second", lambda job: order.append("computed"), turn).start()
        for _ in range(100):
            job.wait(0.05)
            if "another visitor" in job.report.stage:
                break
        assert "another visitor" in job.report.stage
        assert job.running
        assert not order
    assert job.join(10)
    assert order == ["computed"]


def test_a_failure_gives_the_turn_back() -> None:
    turn = threading.Lock()

    def work(job: Job) -> None:
        raise ValueError("edit: distance must be a number, got many")

    job = Job("failing", work, turn).start()
    assert job.join(10)
    assert job.error == "Distance must be a number, got many."
    assert not turn.locked()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("find: The range must be above 0"), "The range must be above 0."),
        (OSError("No space left: disk"), "No space left: disk."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "There is not enough memory for this."),
        (MemoryError(), "There is not enough memory for this."),
        (RuntimeError(), "RuntimeError."),
    ],
)
def test_errors_are_sentences(error: Exception, expected: str) -> None:
    assert sentence(error) == expected


def test_visitors_are_known_by_their_token(shared: Shared) -> None:
    visitors = Visitors(shared, most=2)
    first, second = visitors.session("a" * 32), visitors.session("b" * 32)
    assert visitors.session("a" * 32) is first
    visitors.session("c" * 32)  # the second was used least recently
    assert visitors.session("a" * 32) is first
    assert visitors.session("b" * 32) is not second
    assert len(visitors) == 2
    for token in ("", "short", "A" * 32, None):
        with pytest.raises(ValueError, match="load it again"):
            visitors.session(token)  # type: ignore[arg-type]
