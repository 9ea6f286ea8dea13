"""Calls whose derivative is declared, not derived: custom ``autograd.Function``.

A trace holds such a call as one operator, ``latentjac::declared``.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from latentjac.linearization.places import line_here

Tensor = torch.Tensor


class Declared:
    """A call with its tensors taken out.

    Args:
        function: What is called.
        args: Arguments, in which tensors may lie in containers.

    Attributes:
        name: Of the function.
        line: Where it is called, as ``file:line``.
        tensors: Among the arguments, in order.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self.name = function, getattr(function, "__name__", str(function))
        leaves, self._spec = pytree.tree_flatten(args)
        self.tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.line = line_here()
        self._results: tuple[list[Any], Any] | None = None

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors among the results for other tensors among the arguments."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        flat, spec = pytree.tree_flatten(self._function(*pytree.tree_unflatten(leaves, self._spec)))
        if self._results is None:
            self._results = ([None if isinstance(leaf, Tensor) else leaf for leaf in flat], spec)
        return [leaf for leaf in flat if isinstance(leaf, Tensor)]

    def restore(self, results: Sequence[Tensor]) -> Any:
        """What the function returns, of the tensors in it."""
        assert self._results is not None
        left = iter(results)
        return pytree.tree_unflatten(
            [next(left) if leaf is None else leaf for leaf in self._results[0]], self._results[1]
        )


# What a graph refers to by number while it is traced; who reads the graph keeps it.
_calls: weakref.WeakValueDictionary[int, Declared] = weakref.WeakValueDictionary()
_numbers = itertools.count()

_library = torch.library.Library("latentjac", "DEF")
_library.define("declared(Tensor[] tensors, int number) -> Tensor[]")


def _run(tensors: Sequence[Tensor], number: int) -> list[Tensor]:
    before = [tensor._version for tensor in tensors]
    results = _calls[number](tensors)
    if before != [tensor._version for tensor in tensors]:
        raise RuntimeError(f"{_calls[number].name} writes to its inputs")
    # An operator may not return what it was given.
    return [value.clone() if any(value is tensor for tensor in tensors) else value for value in results]


_library.impl("declared", _run, "CompositeExplicitAutograd")
torch.library.register_fake("latentjac::declared", _run, lib=_library)


class Recorder:
    """Puts calls into a graph that is being traced.

    Attributes:
        calls: By the number in the graph.
        refusal: What was wrong with the function that is traced.
    """

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.calls: dict[int, Declared] = {}

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Record a call, if it has tensors, and return what it returns."""
        call, number = Declared(function, args), next(_numbers)
        if not call.tensors:
            return function(*args)
        self.calls[number] = _calls[number] = call
        results = torch.ops.latentjac.declared(call.tensors, number)
        call.tensors = []  # those of the trace
        return call.restore(results)
