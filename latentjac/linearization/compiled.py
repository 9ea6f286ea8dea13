"""The fast backend: traced once, then plain linear passes over all probes, without autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from latentjac.arguments import check_int
from latentjac.linearization.agreement import distance, refuse_random
from latentjac.linearization.engine import Engine, Options
from latentjac.linearization.graphs import check_mode
from latentjac.linearization.interface import Linearization, check_base, check_rebase, own
from latentjac.linearization.locks import exclusion
from latentjac.linearization.non_finite import raise_if_non_finite
from latentjac.linearization.pool import Pool
from latentjac.linearization.precision import arithmetic, check_precision
from latentjac.linearization.program import Program
from latentjac.linearization.surroundings import outside
from latentjac.linearization.trace import TraceError
from latentjac.recording import Recorder

Tensor = torch.Tensor

# A value of the program may be this many times as far from f as values of the same trace, or rounding, have been.
_LEEWAY = 4
# Part of the value, in roots of the rounding error and at most, from which on the program is another function than f.
_WRONG = 32, 0.25


class ProgramLinearization(Linearization):
    """A tangent program and its transpose, made from one trace of f.

    Attributes:
        engine: The trace, with what the passes need at the base point.

    Args:
        f: As for :func:`latentjac.linearize`.
        x: Base point.
        *constants: Further arguments of f.
        chunk_size: Most probes in work at once; chosen to fit the processor's caches and memory by default.
        memory_limit: Most bytes for the tangents of a pass; half of what is free by default.
        cuda_graphs: As for :func:`latentjac.linearize`.
        precision: As for :func:`latentjac.linearize`.
        recorder: Records passes instead of CUDA, on any device.
        engine: An engine that nobody else uses, with a trace of f for such arguments, in place of a new trace. The
            options before are those of the engine then.

    Raises:
        ValueError: If CUDA graphs are demanded and x is not on a GPU, or f gives different values at one point.
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
        engine: Engine | None = None,
    ) -> None:
        chunk_size = check_int("linearize", "chunk_size", chunk_size, 1, optional=True)
        check_base("linearize", x)
        precision = check_precision(precision, x)
        cuda_graphs = check_mode(cuda_graphs, x.is_cuda or recorder is not None, x.device)
        options = Options(chunk_size, memory_limit, cuda_graphs, precision, recorder)
        self._f, self.x = f, x
        self._restrictions: dict[int, Pool] = {}
        self.engine = engine or Engine(f, x, constants, options)
        self.precision = self.engine.options.precision
        y = self.engine.program.output
        if not y.shape or y.shape[0] != x.shape[0]:
            raise ValueError(
                f"linearize: f must return a batch of {x.shape[0]} points in dimension 0, got shape {list(y.shape)}"
            )
        self._set_base("linearize", x, constants)

    @property
    def program(self) -> Program:
        """The instructions; ``print(lin.program.describe())`` shows them."""
        return self.engine.program

    def recorder(self) -> Recorder | None:
        """See :meth:`Linearization.recorder`."""
        return self.engine.new_recorder() if self.engine.records else None

    def _set_base(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> None:
        x, constants = x.detach().clone(), own(constants)
        with self.engine.turn():
            if not self.engine.is_of(constants):
                self.engine.trace(self._f, x, constants)
            elif not self.engine.weights_hold:
                self.engine.prepare_weights()
            self.engine.base = None
            y = self._checked(name, x, constants)
            self.x, self.y, self._constants = x, y, constants
            # A token of this base point: a failure on the way to another one takes it away.
            self._base = self.engine.base = object()

    def _checked(self, name: str, x: Tensor, constants: tuple[Any, ...]) -> Tensor:
        """The value at a point, once that of the program is that of f as it is now."""
        engine = self.engine
        y = engine.primal(x, constants)
        expected = self._evaluate(x, constants)
        unit, off = torch.finfo(y.dtype).eps, distance(y, expected)
        if not math.isfinite(off):
            with exclusion.evaluating():
                raise_if_non_finite(name, expected, self._f, x, *constants)
        for again in (engine.prepare_weights, lambda: engine.trace(self._f, x, constants)):
            # A comparison with NaN is false.
            if engine.fresh or off <= _LEEWAY * max(engine.rounding, unit):
                break
            again()
            y = engine.primal(x, constants)
            off = distance(y, expected)
        if not off <= min(_WRONG[0] * math.sqrt(unit), _WRONG[1]):
            self._refuse(name, x, constants, expected, off)
        engine.accept(off)
        return y

    def _evaluate(self, x: Tensor, constants: tuple[Any, ...]) -> Tensor:
        with (
            exclusion.evaluating(),
            outside(x.device),
            torch.no_grad(),
            arithmetic(self.precision, x.device),
        ):
            return self._f(x, *constants)

    def _refuse(self, name: str, x: Tensor, constants: tuple[Any, ...], value: Tensor, off: float) -> None:
        again = distance(self._evaluate(x, constants), value)
        # Attention of torch can hide NaN in short rows, which ours shows: such a program is of no use, but f repeats.
        if not again <= (off / 2 if math.isfinite(off) else 0):
            refuse_random(name, again)
        raise TraceError(f"values of the trace differ from those of f by {off:.1e} of their size")

    def rebase(self, x: Tensor, *constants: Any) -> None:
        """Move to another base point; see :meth:`Linearization.rebase`.

        The value there is compared with one plain evaluation of f. Where f has changed it is traced again.
        """
        constants = check_rebase(self, x, constants)
        self._set_base("rebase", x, constants)

    def at(self, x: Tensor, *constants: Any) -> ProgramLinearization:
        """See :meth:`Linearization.at`."""
        constants = check_rebase(self, x, constants, "at")
        return ProgramLinearization(self._f, x, *constants, engine=self.engine.copy())

    def _restriction(self, x: Tensor, constants: tuple[Any, ...]) -> Linearization:
        pool = self._restrictions.setdefault(len(x), Pool())
        return pool.linearization(
            self._f,
            lambda: self._again(x, constants),
            lambda engine: ProgramLinearization(self._f, x, *constants, engine=engine),
        )

    def restriction_cost(self, count: int) -> float:
        """See :meth:`Linearization.restriction_cost`."""
        count = check_int("restriction_cost", "count", count, 1, len(self.x))
        return 1.0 if count in self._restrictions else self._cost_of_again()

    def _again(self, x: Tensor, constants: tuple[Any, ...]) -> ProgramLinearization:
        options = vars(self.engine.options)
        return ProgramLinearization(self._f, x, *constants, **options)

    def _cost_of_again(self) -> float:
        return 1 + self.engine.tracing_cost

    def _jvp(self, probes: Tensor) -> Tensor:
        return self._apply("jvp", "tangent", probes, self.y)

    def _vjp(self, probes: Tensor) -> Tensor:
        return self._apply("vjp", "cotangent", probes, self.x)

    def _apply(self, name: str, passes: str, probes: Tensor, like: Tensor) -> Tensor:
        with self.engine.turn():
            if self.engine.base is not self._base:  # a failed rebase left the engine elsewhere
                self._set_base(name, self.x, self._constants)
            if not self.engine.weights_hold:
                raise RuntimeError(
                    f"{name}: weights of f must be those of the base point, got weights written to since: "
                    "call rebase, which reads them again"
                )
            return self.engine.apply(passes, probes, like)

    def prepare(self, probes: int) -> None:
        """Record the passes over so many probes, if passes are recorded; see :meth:`Linearization.prepare`."""
        probes = check_int("prepare", "probes", probes, 1)
        self.engine.prepare(probes, ("tangent", self.x), ("cotangent", self.y))
