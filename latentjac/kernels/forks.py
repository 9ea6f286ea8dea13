"""Forks of a process that has computed.

The child of a fork has one thread, the copy of the one that forked. OpenMP keeps threads between computations, does not
know that they are gone, and waits for them forever, in the kernels as in torch. So those of the forking thread end
before a fork; parent and child start them again when they next compute. Other threads of the child start their own.

Where the OpenMP library cannot end them (before OpenMP 5.0), the thread that survives the fork runs the kernels alone,
with the same results; torch waits forever there.
"""

from __future__ import annotations

import os
import threading

import torch

from .native import LOADED

_ended = False
"""Whether OpenMP's threads were ended before the last fork."""
_survivor: int | None = None
"""In a child whose OpenMP threads are gone: the thread that still counts on them."""


def thread_count() -> int:
    """Threads that a kernel may use in the calling thread: torch's number, or 1 where others would be missing."""
    return 1 if lost_threads() else torch.get_num_threads()


def lost_threads() -> bool:
    """Whether OpenMP's threads of the calling thread may have been lost in a fork, so that it would wait for them."""
    return _survivor is not None and _survivor == threading.get_ident()


def _before() -> None:
    global _ended
    # Ending threads that are gone would wait for them, too.
    _ended = LOADED.module is not None and not lost_threads() and bool(LOADED.module.end_threads())


def _after_in_child() -> None:
    global _survivor
    _survivor = None if _ended else threading.get_ident()


if LOADED.module is not None and hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_after_in_child)
