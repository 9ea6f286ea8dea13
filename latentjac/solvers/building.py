"""Whom a decomposition is for: a caller who wants a basis, or a function that builds something else on it.

A caller gets the best basis there is, however it ended, and sees its status. A function that builds on bases has no
place for a partial one: inside :func:`building`, Ctrl-C stays ``KeyboardInterrupt``, and a basis that did not converge
is a warning in the name of the function that was called, and counts in the status of what it hands back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from latentjac.interrupts import raise_unseen
from latentjac.solvers.outcome import Status, worst


@dataclass
class Built:
    """What is built on bases.

    Attributes:
        function: The public function that was called.
        statuses: How the bases ended so far.
    """

    function: str
    statuses: list[Status] = field(default_factory=list)

    @property
    def status(self) -> Status | None:
        """The worst of them; None without bases."""
        return worst(self.statuses) if self.statuses else None


_called: ContextVar[str | None] = ContextVar("called", default=None)
_built: ContextVar[Built | None] = ContextVar("built", default=None)


def called(function: str) -> str:
    """The public function that was called: the outermost one that is known, or this one."""
    return _called.get() or function


def under_construction() -> Built | None:
    """What the bases that are computed now are for, if it is something else."""
    return _built.get()


@contextmanager
def calling(function: str) -> Iterator[None]:
    """Messages about what is computed inside name this function, unless it is itself called by another.

    Raises:
        KeyboardInterrupt: If Ctrl-C has interrupted a basis before and nobody has seen its status.
    """
    if _called.get() is not None:
        yield
        return
    raise_unseen(function)
    token = _called.set(function)
    try:
        yield
    finally:
        _called.reset(token)


@contextmanager
def building(function: str) -> Iterator[Built]:
    """Bases that are computed inside are parts of what this function hands back.

    Raises:
        KeyboardInterrupt: If Ctrl-C interrupts one of them, or has done so before and nobody has seen its status.
    """
    with calling(function):
        outer, built = _built.get(), Built(called(function))
        token = _built.set(built)
        try:
            yield built
        finally:
            _built.reset(token)
            if outer is not None:
                outer.statuses += built.statuses
