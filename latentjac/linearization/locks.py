"""Who may run a function while it is traced or differentiated: nobody else.

torch.export puts fake tensors in the place of a module's parameters for as long as it traces, and what makes f a
function of values replaces attributes of torch (``regions.py``). A thread that runs the module meanwhile would meet
those, so plain evaluations wait for whoever is alone, and that one for the evaluations under way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Exclusion:
    """Any number of threads that evaluate, or one that is alone."""

    def __init__(self) -> None:
        self._recover: list[Callable[[], None]] = []
        self._begin()

    def _begin(self) -> None:
        self._free = threading.Condition()
        self._evaluating = self._waiting = self._depth = 0
        self._owner: int | None = None
        self._mine = threading.local()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate functions; the thread that is alone may, too."""
        nested = getattr(self._mine, "evaluates", False) or self._owner == threading.get_ident()
        if nested:
            yield
            return
        with self._free:
            # Those that wait to be alone go first, or they would wait for ever beside busy threads.
            self._free.wait_for(lambda: self._owner is None and not self._waiting)
            self._evaluating += 1
        self._mine.evaluates, begun = True, self._free
        try:
            yield
        finally:
            self._mine.evaluates = False
            # What a thread entered before it forked does not count in the child.
            if begun is self._free:
                with self._free:
                    self._evaluating -= 1
                    self._free.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be alone; within that, again.

        Raises:
            RuntimeError: If this thread is evaluating a function: it would wait for itself.
        """
        self._take()
        begun = self._free
        try:
            yield
        finally:
            if begun is self._free:
                with self._free:
                    self._depth -= 1
                    if not self._depth:
                        self._owner = None
                        self._free.notify_all()

    def _take(self) -> None:
        me = threading.get_ident()
        if self._owner != me and getattr(self._mine, "evaluates", False):
            raise RuntimeError("linearize: must not be called inside a function that is being evaluated")
        with self._free:
            self._waiting += 1
            try:
                self._free.wait_for(lambda: self._owner == me or (self._owner is None and not self._evaluating))
                self._owner = me
                self._depth += 1
            finally:
                self._waiting -= 1
                self._free.notify_all()

    def after_fork(self, recover: Callable[[], None]) -> None:
        """Have a forked child call this if somebody was alone at the fork, to put back what that one had changed."""
        self._recover.append(recover)

    def reset(self) -> None:
        """Let everyone in, in a child: threads of its parent do not live on in it."""
        held = self._owner is not None
        self._begin()
        if held:
            for recover in self._recover:
                recover()


exclusion = Exclusion()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=exclusion.reset)
