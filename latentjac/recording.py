"""Work on a device, recorded once and replayed as one launch (CUDA graphs).

What is recorded are launches on fixed addresses. Each recording has inputs of its own, into which new values are
copied, and a result that its next replay overwrites.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import torch

Tensor = torch.Tensor
Result = TypeVar("Result")

# torch captures one graph at a time.
_capturing = threading.Lock()
_abandoned: list[torch.cuda.CUDAGraph] = []


class Recorder(Protocol):
    """What can record work on a device; :class:`CudaRecorder`, or a stand-in where there is none."""

    def record(self, run: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
        """Record what ``run`` launches. It may run any number of times, so once more must change nothing.

        Returns:
            What launches it again, and what ``run`` gave: tensors that this writes to.

        Raises:
            RuntimeError: If it cannot be recorded. No recording is under way then.
        """
        ...


class Recording(Generic[Result]):
    """A recorded function of tensors of fixed shapes.

    Args:
        recorder: Records it.
        run: The function. What it reads and writes beside its inputs has to stay where it is.
        inputs: Tensors of the shapes to come.
    """

    def __init__(self, recorder: Recorder, run: Callable[..., Result], inputs: Sequence[Tensor]) -> None:
        self._inputs = [value.detach().clone() for value in inputs]
        self._replay, self._result = recorder.record(lambda: run(*self._inputs))

    def __call__(self, *inputs: Tensor) -> Result:
        """The result for new inputs, valid until the next call."""
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        self._replay()
        return self._result


class CudaRecorder:
    """Records CUDA graphs on a stream of its own, in one pool of memory until a recording is broken off.

    One pool is safe as long as no two of its graphs run at the same time, and what one needs of another is held by
    somebody: memory that is held is not given to a later recording.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], Result]) -> tuple[Callable[[], object], Result]:
        """As :meth:`Recorder.record`; ``run`` is run once before, so that libraries settle what they do once."""
        with _capturing, torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(current)
                run()
                try:
                    graph, result = self._capture(run)
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()  # what torch keeps is not given to a recording
                    graph, result = self._capture(run)
            current.wait_stream(self._stream)
        return graph.replay, result

    def _capture(self, run: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
        # Not torch.cuda.graph: it waits for the device and empties torch's cache each time, and where a recording is
        # broken, the error of its end takes the place of the cause.
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device.
        graph.capture_begin(self._pool, capture_error_mode="thread_local")
        try:
            result = run()
        except BaseException:
            with suppress(RuntimeError):
                self._end(graph)
            raise
        self._end(graph)
        return graph, result

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError:
            # The driver broke the recording off, and torch raises before it takes the pool back. What it noted of the
            # host's memory stays: it refuses the pool for good, and goes on asking the graph what belongs to it.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            self._pool = torch.cuda.graph_pool_handle()
            _abandoned.append(graph)
            self._settle_random_numbers()
            raise

    def _settle_random_numbers(self) -> None:
        """End what a broken recording began: until one ends well, torch's generator takes itself for recorded."""
        one = torch.ones((), device=self._device)
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(self._pool, capture_error_mode="thread_local")
        one.fill_(1)
        graph.capture_end()
