"""The fast backend: traced once, then plain linear passes over all probes, without autograd."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch

from latentjac.linearize.allocator import keep_memory
from latentjac.linearize.interface import Linearization, check_base
from latentjac.linearize.non_finite import raise_if_non_finite
from latentjac.linearize.program import Program
from latentjac.linearize.trace import trace

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

    Raises:
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
    ) -> None:
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(f"linearize: chunk_size must be a positive int or None, got {chunk_size!r}")
        check_base("linearize", x)
        self._f, self._chunk_size, self._memory_limit = f, chunk_size, memory_limit
        started = time.perf_counter()
        self._trace(x, constants)
        traced = time.perf_counter()
        self._set_base("linearize", x, constants)
        self._trace_cost = (traced - started) / (time.perf_counter() - traced)

    def _trace(self, x: Tensor, constants: tuple[Any, ...]) -> None:
        self.program = Program(trace(self._f, x.detach(), constants))
        y = self.program.output
        if not y.shape or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"linearize: f must return a batch of {x.shape[0]} points in dimension 0, got shape {list(y.shape)}"
            )
        self._signature = _signature(constants)

    def _set_base(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> None:
        x = x.detach().clone()
        with torch.no_grad():
            y = self.program.primal(x, constants)
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
            self._f, x, *constants, chunk_size=self._chunk_size, memory_limit=self._memory_limit
        )

    def _cost_of_again(self) -> float:
        return 1 + self._trace_cost

    def _jvp(self, probes: Tensor) -> Tensor:
        return self._chunked(self.program.tangent, probes, self.y)

    def _vjp(self, probes: Tensor) -> Tensor:
        return self._chunked(self.program.cotangent, probes, self.x)

    def _chunked(self, apply: Callable[[Tensor], Tensor], probes: Tensor, like: Tensor) -> Tensor:
        if like.device.type == "cpu":
            keep_memory()
        out = like.new_empty(len(probes), *like.shape)
        size = min(len(probes), self._chunk_size or self.program.chunk_size(self._memory_limit))
        # Chunks of one size: 25 probes in chunks of at most 8 are 7 + 6 + 6 + 6.
        start = 0
        with torch.no_grad():
            while start < len(probes):
                left = len(probes) - start
                count = -(-left // -(-left // size))
                try:
                    out[start : start + count] = apply(probes[start : start + count])
                except (torch.OutOfMemoryError, MemoryError) as error:
                    size = self._halve(count, error)
                    continue
                except RuntimeError as error:
                    if "not enough memory" not in str(error) and "can't allocate" not in str(error):
                        raise
                    size = self._halve(count, error)
                    continue
                start += count
        return out

    def _halve(self, count: int, error: Exception) -> int:
        if count == 1:
            raise error
        if self._chunk_size is None or self._chunk_size > count // 2:
            logger.warning("linearize: out of memory with %d probes at once; going on with %d", count, count // 2)
            self._chunk_size = count // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return count // 2


def _signature(constants: tuple[Any, ...]) -> list[Any]:
    return [(v.shape, v.dtype, v.device) if isinstance(v, torch.Tensor) else v for v in constants]
