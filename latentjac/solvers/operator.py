"""What the solvers need of an operator, its products on plain rows, checked and counted, and what is kept of it."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from latentjac import stopping
from latentjac.arguments import shown
from latentjac.forkable import ForkableLock
from latentjac.linear_algebra import orthogonal_part
from latentjac.solvers.orthonormal import NOISE

logger = logging.getLogger("latentjac")

Value = TypeVar("Value")

# Adjoint mismatches of up to some hundred rounding units were met on deep networks.
_MOST_ROUNDINGS = 1000


class LinearOperator(Protocol):
    """What :func:`latentjac.svd` needs of an operator; a :class:`latentjac.Linearization` has it.

    Dimension 0 of x and y holds B points that do not depend on each other: the operator is block diagonal.

    Attributes:
        x: Base point ``[B, ...]``.
        y: Its value ``[B, ...]``.

    Probes are the operator's own: it may write to them and keep them.

    One may also have ``eps``, the relative rounding error of its products (that of the type of x by default);
    ``pass_overhead``, what a pass costs beside its probes, in probes, from which the block size follows;
    ``prepare(k)``, which is called before passes over k probes are timed; and ``recorder()``, a new
    :class:`latentjac.recording.Recorder` or None: the solver then records its own work between passes, and keeps it and
    its arrays for the next run of the same shape for as long as the operator lives, or what it names as its ``engine``.
    """

    x: torch.Tensor
    y: torch.Tensor

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        """Products with J: ``[k, *x.shape]`` to ``[k, *y.shape]``."""
        ...

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        """Products with the transpose: ``[k, *y.shape]`` to ``[k, *x.shape]``."""
        ...


@runtime_checkable
class Restrictable(Protocol):
    """An operator that can leave out points. The solver then takes no further products for points that are done."""

    def restrict(self, points: Sequence[int]) -> LinearOperator:
        """The same operator for some of its points.

        Args:
            points: Distinct indices into dimension 0 of x, ascending.

        Returns:
            An operator whose x is ``x[points]`` and whose y is ``y[points]``; it may share buffers with this one.

        Raises:
            ValueError: If these points cannot be had alone. They then stay together.
        """
        ...

    def restriction_cost(self, count: int) -> float:
        """What leaving all but ``count`` points out costs, in vectors through all points.

        Runs repeat to the bit if this depends on nothing else. Where it depends on time or on what was restricted
        before, ``leaving_cost``, a number of the operator, takes its place, unless the caller of
        :func:`latentjac.svd` allows measurements.
        """
        ...


class Products:
    """Products of an operator with rows ``[B, b, n]`` or ``[B, b, m]``, in units of its size.

    The unit of each point is the power of two that makes the first product there which is not zero about 1: squares of
    products stay numbers whatever the scale of the operator, and no bit of a product changes.

    Attributes:
        points: B.
        n: Entries of one point of x.
        m: Entries of one point of y.
        dtype: Type the solver works in: that of x, but at least float32.
        eps: Rounding unit of the type of x.
        rounding: Relative rounding error of the products, which can be larger.
        jvps: Vectors taken through J so far, over all points.
        vjps: Vectors taken through the transpose so far.
        passes: Passes so far.
        restrictable: Whether points can be left out, as far as is known.
        measure: Whether what was timed may decide.
        subject: The operator, for messages.
        interrupted: Whether Ctrl-C ended the run.
    """

    def __init__(self, operator: LinearOperator, measure: bool = False, subject: str = "svd: operator") -> None:
        self.measure, self.subject = measure, subject
        self._adopt(operator)
        self.restrictable = isinstance(operator, Restrictable) and self.points > 1
        self.jvps = self.vjps = self.passes = 0
        self.interrupted = False
        self._factor = torch.zeros(self.points, 1, 1, dtype=torch.float64, device=self.device)  # 0: not known yet
        self._pending: list[tuple[str, int, torch.Tensor]] = []

    def _adopt(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.points = operator.x.shape[0]
        self.n, self.m = operator.x.numel() // self.points, operator.y.numel() // self.points
        self.dtype = torch.float64 if operator.x.dtype == torch.float64 else torch.float32
        self.device = operator.x.device
        self.eps = torch.finfo(operator.x.dtype).eps
        self.rounding: float = getattr(operator, "eps", self.eps)

    @property
    def zero(self) -> float:
        """Size, relative to the largest, below which a singular value is zero to rounding.

        The noise of orthonormal rows, rounding errors of sums over n or m entries, or those of the products, whichever
        are largest.
        """
        sums = torch.finfo(self.dtype).eps * max(self.n, self.m) ** 0.5
        return max(NOISE[self.dtype], sums, self.rounding)

    @property
    def not_adjoint(self) -> float:
        """Adjoint mismatch, relative to the largest singular value, that rounding cannot explain.

        Even the products of half-precision operators agree to a tenth.
        """
        return min(_MOST_ROUNDINGS * self.rounding, 0.1)

    @property
    def units(self) -> torch.Tensor:
        """What the products of each point are multiples of: powers of two, ``[B]``, float64."""
        factor = self._factor[:, 0, 0]
        return torch.where(factor > 0, 1 / factor, 1.0)

    def prepare(self, count: int) -> None:
        """Let the operator get ready for passes over blocks of so many rows, if it knows how; so they can be timed."""
        prepare = getattr(self.operator, "prepare", None)
        if prepare is not None:
            prepare(count)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """J times each row: ``[B, b, n]`` to ``[B, b, m]``."""
        self.jvps += rows.shape[0] * rows.shape[1]
        return self._apply("jvp", rows, self.operator.x, self.operator.y)

    def backward(self, rows: torch.Tensor) -> torch.Tensor:
        """The transpose times each row: ``[B, b, m]`` to ``[B, b, n]``."""
        self.vjps += rows.shape[0] * rows.shape[1]
        return self._apply("vjp", rows, self.operator.y, self.operator.x)

    def _apply(self, kind: str, rows: torch.Tensor, given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        stopping.check()
        self.passes += 1
        # A copy, since whoever is given probes may write to them or keep them.
        probes = rows.transpose(0, 1).to(given.dtype, memory_format=torch.contiguous_format, copy=True)
        out = getattr(self.operator, kind)(probes.reshape(-1, *given.shape))
        check_product(f"{self.subject}.{kind}", out, [len(probes), *wanted.shape], wanted.device)
        out = out.detach().reshape(len(out), self.points, -1).transpose(0, 1).to(self.dtype)
        largest = out.abs().amax(dim=(1, 2), keepdim=True).double()
        # Whether all is well is asked later, together with other things, so that the device need not be waited for.
        finite = torch.isfinite(largest).all()
        self._pending.append((kind, self.passes, finite))
        settled = (self._factor > 0) | (largest == 0) | ~finite
        self._factor = torch.where(settled, self._factor, _factor_of(largest, out.dtype))
        return torch.where(finite, out * torch.where(self._factor > 0, self._factor, 1.0).to(out.dtype), 0.0)

    def fetch(self, values: torch.Tensor) -> Any:
        """Bring values to the host, and with them whether all products so far were finite.

        Raises:
            ValueError: If a product was not finite.
        """
        flags = [finite.double().reshape(1) for _, _, finite in self._pending]
        host = torch.cat([*flags, values.double().flatten()]).tolist()
        for kind, number, _ in self._pending:
            if not host.pop(0):
                self._pending = []
                raise ValueError(
                    f"{self.subject} must give finite products, got NaN or Inf from {kind} in pass {number}"
                )
        self._pending = []
        return torch.tensor(host, dtype=torch.float64, device="cpu").reshape(values.shape).tolist()

    def restriction_cost(self, count: int) -> float:
        """What :meth:`restrict` to as many points costs, in vectors through all points; infinite if it cannot be."""
        if not isinstance(self.operator, Restrictable):
            return math.inf
        ruled = None if self.measure else getattr(self.operator, "leaving_cost", None)
        return self.operator.restriction_cost(count) if ruled is None else ruled

    def restrict(self, points: Sequence[int]) -> bool:
        """Leave out all other points; False, for good, if the operator cannot."""
        assert isinstance(self.operator, Restrictable)
        try:
            self._adopt(self.operator.restrict(points))
            self._factor = self._factor[list(points)]
        except ValueError as error:
            logger.warning("svd: points that are done stay in the batch: %s", error)
            self.restrictable = False
        return self.restrictable

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Normal rows ``[B, count, n]``; the same whether they are drawn at once or in several calls.

        Every point gets the same, so that what comes of it is what came of it alone.
        """
        rows = [
            torch.randn(self.n, generator=generator, dtype=self.dtype, device=generator.device) for _ in range(count)
        ]
        return torch.stack(rows).expand(self.points, count, self.n).to(self.device).contiguous()


def check_product(subject: str, out: Any, shape: list[int], device: torch.device) -> None:
    """Raise unless a product is a tensor of a shape on a device.

    Raises:
        TypeError: If it is no dense floating-point tensor.
        ValueError: If it has another shape or is elsewhere.
    """
    if not isinstance(out, torch.Tensor) or out.layout is not torch.strided or not out.is_floating_point():
        raise TypeError(f"{subject} must give a dense floating-point tensor, got {shown(out)}")
    if list(out.shape) != shape or out.device != device:
        raise ValueError(f"{subject} must give {shape} on {device}, got {list(out.shape)} on {out.device}")


def _factor_of(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The power of two that takes numbers to [0.5, 1), as far as a type has it."""
    limits = torch.finfo(dtype)
    bounded = largest.clamp(4 * limits.tiny, limits.max / 4)
    return torch.frexp(bounded).mantissa / bounded


class Deflated:
    """An operator with known right directions projected out, for finding what hides behind them.

    Args:
        products: The operator; counts go there.
        known: Orthonormal rows ``[B, k, n]``.
    """

    def __init__(self, products: Products | Deflated, known: torch.Tensor) -> None:
        self.products, self.known = products, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self.products, name)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """J times the part of each row outside the known directions."""
        return self.products.forward(self._reject(rows))

    def backward(self, rows: torch.Tensor) -> torch.Tensor:
        """The part outside the known directions of the transpose times each row."""
        return self._reject(self.products.backward(rows))

    def _reject(self, rows: torch.Tensor) -> torch.Tensor:
        return orthogonal_part(rows, self.known)


class OperatorCache(Generic[Value]):
    """One value an operator, for as long as it lives; of one that is not hashable or not weakly referable, none.

    An operator that is a handle of something longer-lived has an attribute ``engine`` for that: the value is then
    that of the engine. Threads may share it.
    """

    def __init__(self) -> None:
        self._values: weakref.WeakKeyDictionary[Any, Value] = weakref.WeakKeyDictionary()
        self._lock = ForkableLock()  # the end of an engine, in the same thread, may call for it too

    def get(self, operator: Any) -> Value | None:
        """The value, if there is one."""
        with self._lock, suppress(TypeError):
            return self._values.get(_engine(operator))
        return None

    def take(self, operator: Any) -> Value | None:
        """The same, which is forgotten here."""
        with self._lock, suppress(TypeError):
            return self._values.pop(_engine(operator), None)
        return None

    def put(self, operator: Any, value: Value) -> None:
        """Remember a value, if that can be."""
        with self._lock, suppress(TypeError):
            self._values[_engine(operator)] = value


def _engine(operator: Any) -> Any:
    engine = getattr(operator, "engine", None)
    return operator if engine is None else engine
