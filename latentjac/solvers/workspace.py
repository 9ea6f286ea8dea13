"""Where an iteration keeps its bases: arrays that stay in place, so that what works on them can be recorded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch

from latentjac import stopping
from latentjac.recording import Recorder, Recording
from latentjac.solvers.operator import OperatorCache

logger = logging.getLogger("latentjac")

Tensor = torch.Tensor
Result = TypeVar("Result")

# Recordings of one workspace, each some hundred launches long. What comes later is launched.
_MOST = 256


class Shape(NamedTuple):
    """What a workspace has room for.

    Attributes:
        points: B.
        capacity: Rows of the bases.
        width: Rows of a block.
        n: Entries of one point of x.
        m: Entries of one point of y.
        dtype: Type of the rows.
        device: Where they are.
    """

    points: int
    capacity: int
    width: int
    n: int
    m: int
    dtype: torch.dtype
    device: torch.device

    @property
    def nbytes(self) -> int:
        """What the bases and the next block take; the rest is small."""
        rows = 2 * self.capacity * (self.n + self.m) + self.width * self.n
        return self.points * rows * self.dtype.itemsize


class Workspace:
    """Arrays of an iteration, and work on them that was recorded.

    Attributes:
        shape: What there is room for.
        right: Rows of the right basis, ``[B, capacity, n]``.
        forward: J times those, ``[B, capacity, m]``.
        left: Rows of the left basis, ``[B, capacity, m]``.
        backward: The transpose times those, ``[B, capacity, n]``.
        full_right: Which rows of the right basis are not zero, ``[B, capacity]``.
        full_left: The same of the left one.
        core: The left basis against J times the right one, ``[B, capacity, capacity]``, float64.
        next: Rows that go through J next, zeros last, ``[B, width, n]``.
        fresh: Whether those are random directions, ``[B]``.
        exhausted: Whether J is known to vanish outside the right basis, ``[B]``.
        scale: Largest product so far, ``[B, 1]``, float64: the norm of J from below.

    Args:
        shape: What there is to be room for.
        recorder: Records work that comes again; None where everything is launched each time.

    Raises:
        MemoryError: If it would take more than :func:`latentjac.limits` allow.
    """

    def __init__(self, shape: Shape, recorder: Recorder | None = None) -> None:
        allowed = stopping.memory()
        if allowed is not None and shape.nbytes > allowed:
            raise MemoryError(
                f"svd: k must be smaller with limits(max_memory={2 * allowed}): bases take {shape.nbytes} bytes, "
                "and may take half of it"
            )
        self.shape = shape
        points, capacity, width, n, m, dtype, device = shape

        def rows(count: int, length: int) -> Tensor:
            return torch.zeros(points, count, length, dtype=dtype, device=device)

        self.right, self.forward = rows(capacity, n), rows(capacity, m)
        self.left, self.backward = rows(capacity, m), rows(capacity, n)
        self.next = rows(width, n)
        self.core = torch.zeros(points, capacity, capacity, dtype=torch.float64, device=device)
        self.full_right, self.full_left = (
            torch.zeros(points, capacity, dtype=torch.bool, device=device) for _ in range(2)
        )
        self.fresh, self.exhausted = (torch.zeros(points, dtype=torch.bool, device=device) for _ in range(2))
        self.scale = torch.zeros(points, 1, dtype=torch.float64, device=device)
        self._recorder = recorder
        self._recorded: dict[Hashable, Recording[Any]] = {}
        self._seen: Counter[Hashable] = Counter()

    @property
    def records(self) -> bool:
        """Whether work that comes again is recorded."""
        return self._recorder is not None

    def run(self, key: Hashable, work: Callable[..., Result], *inputs: Tensor, waits: bool = False) -> Result:
        """``work(*inputs)``, recorded when it comes for the second time and replayed from then on.

        Args:
            key: Everything that the work depends on beside its inputs and the arrays here.
            work: May change the arrays, so that a second run changes nothing more, and nothing else.
            inputs: Tensors.
            waits: Whether the work waits for the device, which cannot be recorded.

        Returns:
            Its result; valid until the same key comes again.
        """
        if self._recorder is None or waits:
            return work(*inputs)
        if key not in self._recorded:
            self._seen[key] += 1
            if self._seen[key] == 1 or len(self._recorded) == _MOST:
                return work(*inputs)
            try:
                self._recorded[key] = Recording(self._recorder, work, inputs)
            except RuntimeError as error:  # memory may have run out, too
                self._give_up(error)
                return work(*inputs)
        return self._recorded[key](*inputs)

    def select(self, points: Sequence[int]) -> None:
        """Go on with some of the points only, and without recordings, since the arrays move."""
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor):
                setattr(self, name, value[list(points)])
        self.shape = self.shape._replace(points=len(points))
        self._recorder = None
        self._recorded.clear()

    def _give_up(self, error: RuntimeError) -> None:
        reason = str(error).strip().split("\n")[0]
        logger.warning("svd: work between passes is launched piece by piece, since recording failed: %s", reason)
        self._recorder = None
        self._recorded.clear()


# The workspace of the last run on an operator whose passes are recorded: the next run finds its work recorded too.
_kept: OperatorCache[Workspace] = OperatorCache()


@contextmanager
def workspace_for(operator: Any, shape: Shape) -> Iterator[Workspace]:
    """A workspace for one run, which nobody else uses meanwhile.

    Args:
        operator: Whose ``recorder()``, if it has one, records what is done.
        shape: Of the workspace.
    """
    records = hasattr(operator, "recorder")
    space = _kept.take(operator) if records else None
    if space is None or space.shape != shape:
        space = Workspace(shape, operator.recorder() if records else None)
    yield space
    if space.records:
        _kept.put(operator, space)
