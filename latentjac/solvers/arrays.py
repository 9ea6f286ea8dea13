"""Operators of arrays that are not torch's: taken by DLPack, and answered in their own kind."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from latentjac.arguments import shown
from latentjac.solvers.basis import LocalBasis
from latentjac.solvers.outcome import Status


class ArrayOperator(Protocol):
    """A :class:`LinearOperator` whose arrays are NumPy's, CuPy's, JAX's or others that speak DLPack.

    Attributes:
        x: Base point ``[B, ...]``; of it and of y only shape, type and device count.
        y: Its value ``[B, ...]``.

    ``eps`` and ``pass_overhead`` are read as of a :class:`LinearOperator`; points do not leave the batch.
    """

    x: Any
    y: Any

    def jvp(self, v: Any) -> Any:
        """Products with J: ``[k, *x.shape]`` to ``[k, *y.shape]``."""
        ...

    def vjp(self, u: Any) -> Any:
        """Products with the transpose: ``[k, *y.shape]`` to ``[k, *x.shape]``."""
        ...


@dataclass(frozen=True)
class ArrayBasis:
    """Triplets in the kind of arrays of the operator, on its device.

    Attributes:
        s: Singular values ``[k]``, descending.
        v: Right singular vectors ``[k, *x.shape[1:]]``.
        u: Left singular vectors ``[k, *y.shape[1:]]``.
        residuals: Of each triplet.
        basis: The same in torch, with the certificate, the counts and :meth:`LocalBasis.save`. It shares memory with
            the arrays above where their kind allows.
    """

    s: Any = field(repr=False)
    v: Any = field(repr=False)
    u: Any = field(repr=False)
    residuals: Any = field(repr=False)
    basis: LocalBasis

    @property
    def status(self) -> Status:
        """How the decomposition ended; see :class:`LocalBasis`."""
        return self.basis.status


class Adapted:
    """An operator of arrays as one of tensors.

    Args:
        function: That was called, for messages.
        name: Of the argument.
        operator: As it was given.
    """

    def __init__(self, function: str, name: str, operator: ArrayOperator) -> None:
        self._name, self._operator = f"{function}: {name}", operator
        self.x, self.y = (tensor_of(f"{self._name}.{part}", getattr(operator, part)) for part in ("x", "y"))
        for option in ("eps", "pass_overhead"):
            if hasattr(operator, option):
                setattr(self, option, getattr(operator, option))

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        """Products with J."""
        return self._product("jvp", v)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        """Products with the transpose."""
        return self._product("vjp", u)

    def _product(self, kind: str, probes: torch.Tensor) -> torch.Tensor:
        return tensor_of(f"{self._name}.{kind}", getattr(self._operator, kind)(array_like(self._operator.x, probes)))

    def answer(self, basis: LocalBasis) -> ArrayBasis:
        """A basis of this operator in its kind of arrays."""
        s, v, u, residuals = (
            array_like(self._operator.x, getattr(basis, name).to(self.x.device).contiguous())
            for name in ("s", "v", "u", "residuals")
        )
        return ArrayBasis(s, v, u, residuals, basis)


def adapted(function: str, name: str, operator: Any) -> Any:
    """An operator of arrays as one of tensors; everything else as it is.

    Raises:
        TypeError: If its arrays cannot be had as tensors.
    """
    foreign = _is_foreign(getattr(operator, "x", None)) and not isinstance(operator, type)
    complete = all(hasattr(operator, part) for part in ("y", "jvp", "vjp"))
    return Adapted(function, name, operator) if foreign and complete else operator


def plain_start(function: str, warm_start: Any) -> Any:
    """A warm start in torch, if it came in arrays."""
    if isinstance(warm_start, ArrayBasis):
        return warm_start.basis
    return tensor_of(f"{function}: warm_start", warm_start) if _is_foreign(warm_start) else warm_start


def tensor_of(subject: str, array: Any) -> torch.Tensor:
    """An array as a tensor, sharing memory where that can be.

    Raises:
        TypeError: If there is no such tensor; the message begins with the subject.
    """
    try:
        if isinstance(array, np.ndarray):  # DLPack of NumPy refuses what is read-only
            return torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return torch.utils.dlpack.from_dlpack(array)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TypeError(
            f"{subject} must be an array that torch takes by DLPack, got {shown(array)}: {reason}"
        ) from None


def array_like(like: Any, tensor: torch.Tensor) -> Any:
    """A contiguous tensor as an array of the kind of another, sharing memory where that can be."""
    if isinstance(like, np.ndarray):
        return tensor.numpy()
    return _namespace(like).from_dlpack(tensor)


def _is_foreign(array: Any) -> bool:
    return hasattr(array, "__dlpack__") and not isinstance(array, (torch.Tensor, type))


def _namespace(array: Any) -> Any:
    """The module of an array's kind: by the array API standard, or the package that its type comes from."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    return sys.modules[type(array).__module__.partition(".")[0]]
