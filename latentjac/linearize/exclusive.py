"""Who may run a network while it is being traced: nobody else.

torch.export puts fake tensors in the place of a module's parameters for as long as it traces. A thread that runs the
module meanwhile would meet those, so running waits for tracing, and tracing for whoever runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Exclusion:
    """Any number of threads that evaluate, or one that traces."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._evaluating = 0
        self._tracing: int | None = None
        self._waiting = 0
        self._mine = threading.local()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate functions of networks; the thread that traces may, too."""
        depth: int = getattr(self._mine, "depth", 0)
        if depth == 0 and self._tracing != threading.get_ident():
            with self._free:
                # Those that wait to trace go first, or they would wait for ever beside busy threads.
                self._free.wait_for(lambda: self._tracing is None and not self._waiting)
                self._evaluating += 1
            self._mine.counted = True
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if depth == 0 and bool(vars(self._mine).get("counted")):
                self._mine.counted = False
                with self._free:
                    self._evaluating -= 1
                    self._free.notify_all()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace, alone.

        Raises:
            RuntimeError: If this thread is tracing or evaluating a function: it would wait for itself.
        """
        me = threading.get_ident()
        if self._tracing == me or getattr(self._mine, "depth", 0):
            raise RuntimeError("linearize: cannot be called inside a function that is being linearized or evaluated")
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: self._tracing is None and not self._evaluating)
                self._tracing = me
            finally:
                self._waiting -= 1
                self._free.notify_all()
        try:
            yield
        finally:
            with self._free:
                self._tracing = None
                self._free.notify_all()


exclusion = Exclusion()
# Threads of the parent do not live on in a forked child: what they held there would stay held.
os.register_at_fork(after_in_child=lambda: exclusion.__init__())  # type: ignore[misc]
