"""Engines of one trace, each lent to one linearization at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch

from latentjac.forkable import ForkableLock
from latentjac.linearization.changes import modules_of, structure
from latentjac.linearization.engine import Engine
from latentjac.linearization.interface import Linearization
from latentjac.linearization.trace import TraceError

# Engines that nobody uses are kept with what was recorded of their passes; each holds memory for one base point.
_MOST_IDLE = 2


class Pool:
    """Makes linearizations of one function at points of one shape, which share a trace and nothing else.

    An engine is free again once the linearization that had it is gone.
    """

    def __init__(self) -> None:
        self._making, self._lock = ForkableLock(), ForkableLock()
        self._lent: list[tuple[Engine, weakref.ref[Linearization] | None]] = []
        self._pattern: Engine | None = None
        self._untraceable: int | None = None

    def linearization(
        self,
        f: Callable[..., torch.Tensor],
        trace: Callable[[], Linearization],
        reuse: Callable[[Engine], Linearization],
        instead: Callable[[], Linearization] | None = None,
    ) -> Linearization:
        """A linearization that belongs to the caller.

        Args:
            f: The function.
            trace: Makes the first linearization.
            reuse: Makes one on an engine.
            instead: Makes one of a function that could not be traced; ``trace`` does by default.
        """
        with self._making:  # one thread traces, the others take copies
            if self._pattern is None:
                return self._first(f, trace, instead or trace)
        engine = self._take()
        try:
            lin = reuse(engine)
        except TraceError:  # the function has changed into one that cannot be traced
            with self._making:
                self._pattern = None
                return self._first(f, trace, instead or trace)
        except BaseException:
            self._lend(engine, None)
            raise
        self._lend(engine, lin)
        return lin

    def _first(
        self, f: Callable[..., torch.Tensor], trace: Callable[[], Linearization], instead: Callable[[], Linearization]
    ) -> Linearization:
        now = structure(modules_of(f))
        if self._untraceable == now:
            return instead()
        lin = trace()
        engine: Engine | None = getattr(lin, "engine", None)
        self._untraceable = now if engine is None else None
        if engine is not None:
            self._lend(engine, lin)
        return lin

    def _take(self) -> Engine:
        """An engine that nobody uses, or a copy."""
        with self._lock:
            idle = [engine for engine, holder in self._lent if holder is None or holder() is None]
            used = [(engine, holder) for engine, holder in self._lent if engine not in idle]
            self._lent = used + [(engine, None) for engine in idle[1 : 1 + _MOST_IDLE]]
            pattern = self._pattern
        assert pattern is not None
        return idle[0] if idle else pattern.copy()

    def _lend(self, engine: Engine, lin: Linearization | None) -> None:
        with self._lock:
            self._lent.append((engine, None if lin is None else weakref.ref(lin)))
            self._pattern = engine
