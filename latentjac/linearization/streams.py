"""Keeps the work of one linearization in order when it is called from several streams of a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class StreamOrder:
    """Turns on a device: work that is queued in one turn waits for that of the turns before.

    All that passes read, and the buffers of recorded ones, are shared by the calls of a linearization. Without order, a
    base point could move under a pass that another stream has queued. Results belong to the stream of the caller.

    Args:
        current: The stream that work is queued on now; that of torch, for a device.
    """

    def __init__(self, current: Callable[[], Any]) -> None:
        self._current = current
        self._lock = threading.RLock()
        self._streams = [current()]
        self._done: Any = None

    @classmethod
    def on(cls, device: torch.device) -> StreamOrder | None:
        """The order for a device; None where there are no streams."""
        return cls(lambda: torch.cuda.current_stream(device)) if device.type == "cuda" else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Queue work in order; one thread at a time."""
        with self._lock:
            stream = self._current()
            if self._done is not None:
                stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done = stream.record_event()
                # Memory that was allocated on a stream is reused by that stream's later work unasked.
                for other in self._streams:
                    if other != stream:
                        other.wait_event(self._done)
                if stream not in self._streams:
                    self._streams.append(stream)
