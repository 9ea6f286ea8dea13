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
    """Records CUDA graphs on a stream of its own, all in one pool of memory.

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
        graph = torch.cuda.CUDAGraph()
        with _capturing, torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            # This block gives the caller's stream back even where torch.cuda.graph fails to leave its own.
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(current)
                run()
                result = self._capture(graph, run)
            current.wait_stream(self._stream)
        return graph.replay, result

    def _capture(self, graph: torch.cuda.CUDAGraph, run: Callable[[], Result]) -> Result:
        # Other threads may go on using the device.
        mode = "thread_local"
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=mode):
                return run()
        except BaseException:
            # Ending an invalid capture raises before torch takes the pool back, on some versions.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            raise
