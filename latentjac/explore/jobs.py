"""Work of one visitor in a thread: it waits for its turn, tells how far it is, and can be stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import latentjac
from latentjac.linearization.allocator import is_out_of_memory
from latentjac.stopping import Progress, StoppedError, limits

logger = logging.getLogger("latentjac")
_STAGES = {"inversion": "inverting", "the way back": "going back to a picture", "svd": "finding directions"}
_LOOK = 0.1  # seconds between looks at a wish to stop while another visitor computes


@dataclass(frozen=True)
class Report:
    """How far a job is.

    Attributes:
        stage: What it does now, as a phrase.
        done: Steps of the stage so far.
        total: Of how many; None where that is not known.
    """

    stage: str
    done: int = 0
    total: int | None = None


class Job:
    """A function that computes, in a thread of its own, one of all jobs that share a lock at a time.

    Args:
        what: What it does, as a phrase.
        work: The function; it gets the job, and may name its parts by :meth:`begin`.
        turn: Held while it computes.

    Attributes:
        report: How far it is.
        error: Why it failed, as a sentence; empty where it did not.
        stopped: Whether :meth:`stop` ended it.
    """

    def __init__(self, what: str, work: Callable[[Job], None], turn: threading.Lock) -> None:
        self.report = Report(what)
        self.error, self.stopped = "", False
        self._work, self._turn, self._part = work, turn, ""
        self._stop, self._ended, self._changed = threading.Event(), threading.Event(), threading.Condition()
        # A process that ends does not wait for it.
        self._thread = threading.Thread(target=self._run, name=f"latentjac: {what}", daemon=True)

    def start(self) -> Job:
        """Begin in the thread."""
        self._thread.start()
        return self

    @property
    def running(self) -> bool:
        """Whether it waits or computes."""
        return not self._ended.is_set()

    def stop(self) -> None:
        """Have it end at the next evaluation of the network; returns at once."""
        self._stop.set()

    def join(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; return whether it has."""
        return self._ended.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Wait for news, at most for a time."""
        with self._changed:
            if self.running:
                self._changed.wait(seconds)

    def begin(self, part: str) -> None:
        """Name the part that comes now; steps inside are told behind it."""
        self._part = part
        self._tell(Report(part))

    def _tell(self, report: Report) -> None:
        with self._changed:
            self.report = report
            self._changed.notify_all()

    def _hear(self, step: Progress) -> None:
        stage = self._part or _STAGES.get(step.what, self.report.stage)
        self._tell(Report(stage, step.done, step.total))

    def _run(self) -> None:
        try:
            self._wait_for_turn()
            try:
                with limits(stop=self._stop.is_set, progress=self._hear):
                    self._work(self)
            finally:
                self._turn.release()
        except StoppedError:
            self.stopped = True
        except (ValueError, TypeError, OSError, MemoryError, latentjac.ConvergenceError) as error:
            self.error = sentence(error)
        except Exception as error:
            logger.exception("explore: a job failed")
            self.error = sentence(error)
        finally:
            self._ended.set()
            with self._changed:
                self._changed.notify_all()

    def _wait_for_turn(self) -> None:
        what = self.report
        while not self._turn.acquire(timeout=_LOOK):
            if self._stop.is_set():
                raise StoppedError("stopped while another visitor computed")
            self._tell(Report("waiting: the network computes for another visitor"))
        self._tell(what)


def sentence(error: BaseException) -> str:
    """What an error says, without the function that it names."""
    if is_out_of_memory(error):
        return "There is not enough memory for this."
    text = " ".join(str(error).split()) or type(error).__name__
    function, colon, rest = text.partition(": ")
    text = rest if colon and function.replace("_", "").replace(".", "").isidentifier() else text
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")
