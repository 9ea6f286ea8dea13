"""The fast backend: traced once, then plain linear passes over all probes, without autograd."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch

from latentjac.linearize.allocator import keep_memory
from latentjac.linearize.graphs import Replayed, check_mode
from latentjac.linearize.interface import Linearization, check_base
from latentjac.linearize.non_finite import raise_if_non_finite
from latentjac.linearize.precision import arithmetic, check_precision, lowered
from latentjac.linearize.program import Program
from latentjac.linearize.streams import StreamOrder
from latentjac.linearize.trace import trace
from latentjac.recording import CudaRecorder, Recorder

logger = logging.getLogger("latentjac")

Tensor = torch.Tensor


class ProgramLinearization(Linearization):
    """A tangent program and its transpose, made from one trace of f.

    Attributes:
        program: The instructions; ``print(lin.program.describe())`` shows them.

    Args:
        f: As for :func:`latentjac.linearize`. Parameters are taken as they are now: after training on, linearize again.
        x: Base point.
        *constants: Further arguments of f.
        chunk_size: Most probes in work at once; chosen to fit the processor's caches and memory by default.
        memory_limit: Most bytes for the tangents of a pass; half of what is free by default.
        cuda_graphs: As for :func:`latentjac.linearize`.
        precision: As for :func:`latentjac.linearize`.
        recorder: Records passes instead of CUDA, on any device.

    Raises:
        ValueError: If CUDA graphs are demanded and x is not on a GPU.
        TraceError: If f cannot be traced.
    """

    backend = "program"

    def __init__(
        self,
        f: Callable[..., Tensor],
        x: Tensor,
        *constants: Any,
        chunk_size: int | None = None,
        memory_limit: int | None = None,
        cuda_graphs: bool | str = "auto",
        precision: str | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(f"linearize: chunk_size must be a positive int or None, got {chunk_size!r}")
        check_base("linearize", x)
        check_precision(precision, x)
        check_mode(cuda_graphs, x.is_cuda or recorder is not None, x.device)
        self._f, self._chunk_size, self._memory_limit = f, chunk_size, memory_limit
        started = time.perf_counter()
        self._fitting: int | None = None
        self._cuda_graphs, self._recorder, self.precision = cuda_graphs, recorder, precision
        self._order, self.x = StreamOrder.on(x.device), x
        self._trace(x, constants)
        traced = time.perf_counter()
        self._set_base("linearize", x, constants)
        self._trace_cost = (traced - started) / (time.perf_counter() - traced)

    def _trace(self, x: Tensor, constants: tuple[Any, ...]) -> None:
        self.program = Program(trace(self._f, x.detach(), constants), lowered(self.precision))
        y = self.program.output
        if not y.shape or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"linearize: f must return a batch of {x.shape[0]} points in dimension 0, got shape {list(y.shape)}"
            )
        self._signature = _signature(constants)
        self._passes: Program | Replayed = self.program
        if self._cuda_graphs and (x.is_cuda or self._recorder):
            self._passes = Replayed(self.program, self._recorder or CudaRecorder(x.device), self._cuda_graphs is True)

    def recorder(self) -> Recorder | None:
        """See :meth:`Linearization.recorder`."""
        if not isinstance(self._passes, Replayed):
            return None
        return self._recorder or CudaRecorder(self.x.device)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Queue work in order, without autograd and in the right arithmetic."""
        order = nullcontext() if self._order is None else self._order.turn()
        with order, torch.no_grad(), arithmetic(self.precision, self.x.device):
            yield

    def _set_base(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> None:
        x = x.detach().clone()
        with self._turn():
            y = self._passes.primal(x, constants)
        raise_if_non_finite(name, y, self._f, x, *constants)
        self.x, self.y, self._constants = x, y, constants

    def rebase(self, x: Tensor, *constants: Any) -> None:
        """Move to another base point; see :meth:`Linearization.rebase`. Nothing is traced again."""
        if not isinstance(x, torch.Tensor) or x.shape != self.x.shape or x.dtype != self.x.dtype:
            got = f"{list(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(f"rebase: x must be {list(self.x.shape)} {self.x.dtype}, got {got}")
        if constants and len(constants) != len(self._constants):
            raise ValueError(f"rebase: constants must be {len(self._constants)} values or none, got {len(constants)}")
        check_base("rebase", x)
        constants = constants or self._constants
        if _signature(constants) != self._signature:
            # Numbers, and the shapes of tensors, are part of a trace.
            self._trace(x, constants)
        self._set_base("rebase", x, constants)

    def _again(self, x: Tensor, constants: tuple[Any, ...]) -> ProgramLinearization:
        return ProgramLinearization(
            self._f,
            x,
            *constants,
            chunk_size=self._chunk_size,
            memory_limit=self._memory_limit,
            cuda_graphs=self._cuda_graphs,
            precision=self.precision,
            recorder=self._recorder,
        )

    def _cost_of_again(self) -> float:
        return 1 + self._trace_cost

    def _jvp(self, probes: Tensor) -> Tensor:
        return self._chunked(self._passes.tangent, probes, self.y)

    def _vjp(self, probes: Tensor) -> Tensor:
        return self._chunked(self._passes.cotangent, probes, self.x)

    def prepare(self, probes: int) -> None:
        """Record the passes over so many probes, if passes are recorded; see :meth:`Linearization.prepare`."""
        super().prepare(probes)
        if not isinstance(self._passes, Replayed):
            return
        count = _evenly(probes, self._most())
        for name, like in (("tangent", self.x), ("cotangent", self.y)):
            # Where memory runs out, the first pass that is really taken finds out how many fit.
            with self._turn(), suppress(torch.OutOfMemoryError):
                self._passes.prepare(name, like.new_zeros(count, *like.shape))

    def _most(self) -> int:
        """Probes at once."""
        # Asked once where passes are recorded: shapes have to come again.
        if self._fitting is None or not isinstance(self._passes, Replayed):
            self._fitting = self.program.chunk_size(self._memory_limit)
        return self._chunk_size or self._fitting

    def _chunked(self, apply: Callable[[Tensor], Tensor], probes: Tensor, like: Tensor) -> Tensor:
        if like.device.type == "cpu":
            keep_memory()
        out = like.new_empty(len(probes), *like.shape)
        start = 0
        with self._turn():
            while start < len(probes):
                count = _evenly(len(probes) - start, self._most())
                try:
                    out[start : start + count] = apply(probes[start : start + count])
                except (torch.OutOfMemoryError, MemoryError) as error:
                    self._halve(count, error)
                    continue
                except RuntimeError as error:
                    if "not enough memory" not in str(error) and "can't allocate" not in str(error):
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
        if isinstance(self._passes, Replayed):
            self._passes.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _evenly(left: int, most: int) -> int:
    """Probes of the next chunk, in chunks of one size: 25 in chunks of at most 8 are 7 + 6 + 6 + 6."""
    return -(-left // -(-left // most))


def _signature(constants: tuple[Any, ...]) -> list[Any]:
    return [(v.shape, v.dtype, v.device) if isinstance(v, torch.Tensor) else v for v in constants]
