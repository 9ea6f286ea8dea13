"""Locks of the whole process that a forked child finds free."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

_all: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """A reentrant lock; after a fork the child, whose only thread may not be the one that held it, has a fresh one.

    Args:
        recover: Called in the child if the lock was held at the fork, to put back what its holder had changed.
    """

    def __init__(self, recover: Callable[[], None] | None = None) -> None:
        self._lock, self._depth, self._recover = threading.RLock(), 0, recover
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        self._lock.release()

    def reset(self) -> None:
        """Make it free, in a child."""
        held, self._lock, self._depth = self._depth > 0, threading.RLock(), 0
        if held and self._recover is not None:
            self._recover()


def _reset_all() -> None:
    for lock in list(_all):
        lock.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
