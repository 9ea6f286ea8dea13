"""Ways to take the derivative of any function of tensors, from the fastest to the one that takes the most functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from latentjac.linearization.tape import Tape, over_probes

Tensor = torch.Tensor
Function = Callable[..., Sequence[Tensor]]


class NoDerivativeError(TypeError):
    """A function has an operator whose derivative is not known; the message names its line."""


class Way(ABC):
    """Products with the Jacobian of a function at a point and with the transpose, over blocks of probes.

    Args:
        f: Maps tensors to a sequence of tensors.
        point: Where.
        chunk_size: Most probes at once.

    Attributes:
        adjoint: Whether the products are each other's transpose by construction.
    """

    adjoint = False

    def __init__(self, f: Function, point: Sequence[Tensor], chunk_size: int | None = None) -> None:
        self._f, self._point, self._chunk_size = f, tuple(point), chunk_size

    @abstractmethod
    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        """Tangents of the values from those of the point."""

    @abstractmethod
    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Cotangents of the point from those of the values; None is zero."""


class Functional(Way):
    """``torch.func.jvp`` and ``torch.func.vjp`` under ``vmap``."""

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        """See :meth:`Way.push`."""

        def one(*v: Tensor) -> tuple[Tensor, ...]:
            return cast("tuple[Tensor, ...]", torch.func.jvp(self._f, self._point, v)[1])

        return torch.func.vmap(one, chunk_size=self._chunk_size)(*t)

    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """See :meth:`Way.pull`."""
        values, pull = self._evaluated()
        return torch.func.vmap(lambda *w: pull(w), chunk_size=self._chunk_size)(*_full(u, values))

    def _evaluated(self) -> tuple[Any, Any]:
        # Anew for each pass: a recording of passes holds nothing of one point but what the primal keeps.
        return cast("tuple[Any, Any]", torch.func.vjp(self._f, *self._point))


class Transposed(Functional):
    """Reverse mode alone, where there is no forward mode."""

    adjoint = True

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        """See :meth:`Way.push`."""

        def one(*v: Tensor) -> Sequence[Tensor]:
            values, pull = cast("tuple[Any, Any]", torch.func.vjp(self._f, *self._point))
            # The transpose of the transpose, which is linear and so may be taken at zero.
            return torch.func.vjp(lambda *w: pull(w), *(torch.zeros_like(y) for y in values))[1](v)

        return torch.func.vmap(one, chunk_size=self._chunk_size)(*t)


class Taped(Way):
    """Autograd's tape, one probe at a time."""

    forward = False

    def __init__(self, f: Function, point: Sequence[Tensor], chunk_size: int | None = None) -> None:
        super().__init__(f, point, chunk_size)
        self._tape = Tape(f, point, self.forward)

    def push(self, t: Sequence[Tensor]) -> Sequence[Tensor]:
        """See :meth:`Way.push`."""
        return over_probes(self._tape.push, t)

    def pull(self, u: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """See :meth:`Way.pull`."""
        return over_probes(self._tape.pull, _full(u, self._tape.values))


class TapedForward(Taped):
    """The same, with the forward mode that a function declares."""

    forward = True


def _full(u: Sequence[Tensor | None], values: Sequence[Tensor]) -> list[Tensor]:
    like = next(w for w in u if w is not None)
    return [like.new_zeros(len(like), *y.shape) if w is None else w for w, y in zip(u, values, strict=True)]


def has_derivative(op: torch._ops.OpOverload) -> bool:
    """Whether autograd knows anything of an operator: of one that it does not know it takes the derivative for zero."""
    keys = ("Autograd", "AutogradCPU", "AutogradCUDA", "CompositeImplicitAutograd")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key) for key in keys)
