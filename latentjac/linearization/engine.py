"""A trace with one base point: passes in order, in chunks that fit, recorded where that pays."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch

from latentjac import stopping
from latentjac.forkable import ForkableLock
from latentjac.linearization.allocator import is_out_of_memory, keep_memory
from latentjac.linearization.changes import Stamp, modules_of, structure
from latentjac.linearization.graphs import Replayed
from latentjac.linearization.precision import arithmetic, lowered
from latentjac.linearization.program import Program
from latentjac.linearization.streams import StreamOrder
from latentjac.linearization.trace import trace
from latentjac.recording import CudaRecorder, Recorder

logger = logging.getLogger("latentjac")

Tensor = torch.Tensor

# What tracing takes beside a forward pass, roughly, for each traced call, in operations of the network.
_TRACING = {"cpu": 3e8, "cuda": 1e11}


@dataclass(frozen=True)
class Options:
    """How the passes of an engine run; see :class:`latentjac.linearization.ProgramLinearization`."""

    chunk_size: int | None = None
    memory_limit: int | None = None
    cuda_graphs: bool | str = "auto"
    precision: str | None = None
    recorder: Recorder | None = None


class Engine:
    """Passes over one trace; what they need of the base point is kept here, so one linearization has it at a time.

    Threads take turns at it.

    Attributes:
        options: How the passes run.
        program: The instructions.
        base: Whose base point is set; None after a failure.
        fresh: Whether the trace was made just now, and no value of it has been compared with f yet.
        rounding: How far values of the program were from those of f, relative to them, where both were right.

    Args:
        f: The function.
        x: Point of the shapes to come.
        constants: Further arguments of f.
        options: How the passes run.

    Raises:
        TraceError: If f cannot be traced.
    """

    def __init__(self, f: Callable[..., Tensor], x: Tensor, constants: tuple[Any, ...], options: Options) -> None:
        self.options, self._device = options, x.device
        self._order = StreamOrder.on(x.device)
        self._modules = modules_of(f)
        self._begin()
        self.trace(f, x, constants)

    def _begin(self) -> None:
        self._lock = ForkableLock(self._lose_base)
        self._fitting: int | None = None
        self._chunk_size = self.options.chunk_size
        self.base: object | None = None
        self.rounding, self.fresh = 0.0, False

    def _lose_base(self) -> None:
        self.base = None

    def copy(self) -> Engine:
        """The same trace with a base point of its own; weights, and what was prepared of them, are shared."""
        with self._lock:
            other = copy.copy(self)
            other._begin()
            other.rounding = self.rounding
            other._order = StreamOrder.on(self._device)
            other._set_program(self.program.copy())
        return other

    def trace(self, f: Callable[..., Tensor], x: Tensor, constants: tuple[Any, ...]) -> None:
        """Trace f as it is now."""
        self.base = None
        now = structure(self._modules)
        traced = trace(f, x.detach(), constants)
        program = Program(traced, lowered(self.options.precision))
        self._traced, self.signature = traced, signature(constants)
        self._structure: int | None = now
        self._set_program(program)
        self.fresh = True

    def prepare_weights(self) -> None:
        """Read the weights again, which were written to in place."""
        self.base = None
        self._set_program(Program(self._traced, lowered(self.options.precision)))

    def _set_program(self, program: Program) -> None:
        self.program = program
        for instruction in program.instructions:
            instruction.defers = not self.records
        self._stamp = Stamp(self._traced.frozen.values())
        self.passes: Program | Replayed = program
        if self.records:
            self.passes = Replayed(program, self.new_recorder(), self.options.cuda_graphs is True)

    @property
    def records(self) -> bool:
        """Whether passes are recorded."""
        return bool(self.options.cuda_graphs) and (self._device.type == "cuda" or self.options.recorder is not None)

    def new_recorder(self) -> Recorder:
        """What records, where passes are recorded."""
        return self.options.recorder or CudaRecorder(self._device)

    def is_of(self, constants: tuple[Any, ...]) -> bool:
        """Whether the trace is of f as it is built now, and for such constants; weights are not looked at."""
        same = self.signature == signature(constants) and self._structure in (None, structure(self._modules))
        return same and self.program.holds(constants)

    def accept(self, distance: float) -> None:
        """Take a value of the program for that of f, from which it is so far."""
        if self.fresh and self._structure != structure(self._modules):
            self._structure = None  # f changes settings of its modules itself
        self.rounding, self.fresh = max(self.rounding, distance), False

    @property
    def weights_hold(self) -> bool:
        """Whether the weights are those that the passes were prepared for, as far as that shows without a pass."""
        return self._stamp.holds()

    @property
    def tracing_cost(self) -> float:
        """What tracing costs, roughly, in vectors through the Jacobian: the same on every run."""
        calls, flops = len(self._traced.calls), sum(i.flops() for i in self.program.instructions)
        return calls * _TRACING.get(self._device.type, _TRACING["cuda"]) / max(flops, 1)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Queue work in order, one thread at a time, without autograd and in the right arithmetic."""
        order = nullcontext() if self._order is None else self._order.turn()
        with self._lock, order, torch.no_grad(), arithmetic(self.options.precision, self._device):
            yield

    def primal(self, x: Tensor, constants: tuple[Any, ...]) -> Tensor:
        """Move to a base point; the result is f there. Only within a turn."""
        return self.passes.primal(x, constants)

    def prepare(self, probes: int, *points: tuple[str, Tensor]) -> None:
        """Record passes over so many probes, if passes are recorded: names of passes with a point they take."""
        if not isinstance(self.passes, Replayed):
            return
        count = _evenly(probes, self._most())
        for name, like in points:
            # Where memory runs out, the first pass that is really taken finds out how many fit.
            with self.turn(), suppress(torch.OutOfMemoryError):
                self.passes.prepare(name, like.new_zeros(count, *like.shape))

    def _most(self) -> int:
        """Probes at once."""
        # Asked once where passes are recorded: shapes have to come again.
        if self._fitting is None or not isinstance(self.passes, Replayed):
            self._fitting = self.program.chunk_size(self.options.memory_limit)
        most, limit = self._chunk_size or self._fitting, stopping.memory()
        return most if limit is None else min(most, self.program.chunk_size(limit))

    def apply(self, name: str, probes: Tensor, like: Tensor) -> Tensor:
        """A pass, ``"tangent"`` or ``"cotangent"``, in chunks, with results of the shape of ``like``. Within a turn."""
        if like.device.type == "cpu":
            keep_memory()
        out = like.new_empty(len(probes), *like.shape)
        start = 0
        while start < len(probes):
            count = _evenly(len(probes) - start, self._most())
            try:
                out[start : start + count] = getattr(self.passes, name)(probes[start : start + count])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(count, error)
                continue
            start += count
        return out

    def _halve(self, count: int, error: Exception) -> None:
        if count == 1:
            raise error
        logger.warning("linearize: out of memory with %d probes at once; going on with %d", count, count // 2)
        self._chunk_size = count // 2
        if isinstance(self.passes, Replayed):
            self.passes.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def signature(constants: tuple[Any, ...]) -> list[Any]:
    """What of constants is part of a trace: numbers, and the shapes of tensors."""
    return [(v.shape, v.dtype, v.device) if isinstance(v, Tensor) else (type(v), v) for v in constants]


def _evenly(left: int, most: int) -> int:
    """Probes of the next chunk, in chunks of one size: 25 in chunks of at most 8 are 7 + 6 + 6 + 6."""
    return -(-left // -(-left // most))
