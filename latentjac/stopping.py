"""Limits that a host program sets around calls: time, memory, a wish to stop; and what it hears of their progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ContextDecorator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from latentjac.arguments import check_callable, check_int, check_number


class StoppedError(Exception):
    """A limit of :func:`limits` ended a call; what it would have returned does not exist.

    Example:
        >>> try:
        ...     with latentjac.limits(max_seconds=1e-9):
        ...         path = latentjac.invert(model, "photo.jpg")
        ... except latentjac.StoppedError:
        ...     print("out of time")
        out of time
    """


@dataclass(frozen=True)
class Progress:
    """How far a loop inside a call is.

    Attributes:
        what: Its name: ``"inversion"``, ``"svd"``, ``"edit"``, …
        done: Steps so far; of ``"svd"`` triplets that have converged.
        total: Steps of the whole loop, where that is known.
    """

    what: str
    done: int
    total: int | None


@dataclass(frozen=True)
class _Limits:
    """What holds inside a block; of nested blocks the tightest."""

    seconds: float | None = None
    deadline: float = math.inf
    memory: int | None = None
    stops: tuple[Callable[[], Any], ...] = ()
    progress: Callable[[Progress], Any] | None = None
    block: _Block | None = None
    outer: _Limits | None = None


_current: ContextVar[_Limits | None] = ContextVar("limits", default=None)


def limits(
    *,
    max_seconds: float | None = None,
    max_memory: int | None = None,
    stop: Callable[[], Any] | None = None,
    progress: Callable[[Progress], Any] | None = None,
) -> AbstractContextManager[None]:
    """Limit every call of this library in a block, whatever it is.

    They are looked at before each evaluation of the network and before each pass of a Jacobian, in the thread of the
    block: what a thread that begins inside it does is not limited. One evaluation, a trace and a codec run to their
    end. Blocks may be nested; the tightest limit holds. What is returned may be entered again and again, by several
    threads at once, too: each block has its own time.

    Args:
        max_seconds: Time from the beginning of the block. ``max_seconds`` of :func:`latentjac.svd` and
            :func:`latentjac.local_basis` hands over the best basis so far, this one raises.
        max_memory: Bytes. The tangents of a pass of a traced function take at most half of it, in smaller blocks where
            that must be, and so do the bases of the solver, or ``MemoryError`` is raised before they are made. Weights,
            what a linearization keeps of its point, and samples are not counted.
        stop: Called without arguments; true ends the call. ``threading.Event().is_set`` is stopped from any thread.
        progress: Called with a :class:`latentjac.stopping.Progress` after each step of a loop, in the thread that
            computes; it should return at once. An error in it ends the call. Of nested blocks the inner one is called.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a limit is not positive.
        StoppedError: From the call inside, if time is over or ``stop`` returned true.
        MemoryError: From the call inside, if the solver's bases would take more than half of ``max_memory``.

    Example:
        >>> import threading
        >>> event = threading.Event()
        >>> with latentjac.limits(max_seconds=60, stop=event.is_set):
        ...     path = latentjac.invert(model, "photo.jpg", num_inference_steps=12)
    """
    max_seconds = check_number("limits", "max_seconds", max_seconds, 0, math.inf, optional=True)
    max_memory = check_int("limits", "max_memory", max_memory, 1, optional=True)
    check_callable("limits", "stop", stop, optional=True)
    check_callable("limits", "progress", progress, optional=True)
    return _Block(max_seconds, max_memory, stop, progress)


@dataclass(frozen=True, eq=False)
class _Block(ContextDecorator, AbstractContextManager[None]):
    """What :func:`limits` was given; it knows nothing of who has entered it."""

    seconds: float | None
    memory: int | None
    stop: Callable[[], Any] | None
    progress: Callable[[Progress], Any] | None

    def __enter__(self) -> None:
        outer = _current.get() or _Limits()
        seconds, deadline = outer.seconds, outer.deadline
        if self.seconds is not None and time.perf_counter() + self.seconds < deadline:
            seconds, deadline = self.seconds, time.perf_counter() + self.seconds
        sizes = [size for size in (outer.memory, self.memory) if size is not None]
        stops = outer.stops if self.stop is None else (*outer.stops, self.stop)
        least, progress = min(sizes) if sizes else None, self.progress or outer.progress
        _current.set(_Limits(seconds, deadline, least, stops, progress, self, _current.get()))

    def __exit__(self, *error: object) -> None:
        entered = _current.get()
        while entered is not None and entered.block is not self:
            entered = entered.outer
        if entered is not None:  # None where another task leaves it than entered it
            _current.set(entered.outer)


def check() -> None:
    """Raise if what surrounds this call wants it to end.

    Raises:
        StoppedError: If so.
    """
    now = _current.get()
    if now is None:
        return
    if any(stop() for stop in now.stops):
        raise StoppedError("limits: stop returned true")
    if time.perf_counter() >= now.deadline:
        raise StoppedError(f"limits: max_seconds={now.seconds:g} are over")


def memory() -> int | None:
    """Most bytes of the tangents of a pass, and most of the bases of a solver; None without a limit."""
    now = _current.get()
    return None if now is None or now.memory is None else now.memory // 2


def heard() -> bool:
    """Whether a callback wants to hear of progress."""
    now = _current.get()
    return now is not None and now.progress is not None


class Bar(tqdm):
    """A progress bar, shown or not, that tells the callback of :func:`limits` too.

    Args:
        what: Its name.
        steps: What to go through, for ``for``, or how many calls of :meth:`update` there will be.
        unit: Of one step.
        shown: Whether it is.
    """

    def __init__(self, what: str, steps: Iterable[Any] | int | None, unit: str = "step", *, shown: bool) -> None:
        many = None if isinstance(steps, int) else steps
        super().__init__(many, total=steps if many is None else None, desc=what, unit=unit, disable=not shown)
        self._what, self._done = what, 0

    def __iter__(self) -> Iterator[Any]:
        for step in super().__iter__():
            yield step
            self.reach(self._done + 1)

    def update(self, n: float | None = 1) -> bool | None:
        """Go on by so many steps."""
        self.reach(self._done + int(n or 0))
        return super().update(n)

    def reach(self, done: int) -> None:
        """Tell that so many steps are done."""
        self._done = done
        now = _current.get()
        if now is not None and now.progress is not None:
            now.progress(Progress(self._what, done, None if self.total is None else int(self.total)))
