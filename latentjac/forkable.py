"""A lock that is free again in the child of a fork, where the thread that held it does not live on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class ForkableLock:
    """A lock for ``with``; the thread that holds it may enter it again, in a child of its own fork, too.

    Args:
        lost: Called in a child, with the lock, where another thread held it at the fork: what it guards may be half
            done.
    """

    def __init__(self, lost: Callable[[], None] | None = None) -> None:
        self._lost = lost
        self._begin()

    def _begin(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        lost = self._process != os.getpid() and self._look()
        self._lock.acquire()
        self._depth += 1
        self._owner = threading.get_ident()
        if lost and self._lost is not None:
            self._lost()

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._lock.release()

    def _look(self) -> bool:
        """In a child, begin anew unless this thread holds it; whether another one held it."""
        if self._owner == threading.get_ident():
            self._process = os.getpid()
            return False
        held = self._owner is not None
        self._begin()
        return held
