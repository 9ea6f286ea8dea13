"""The unit of a program: one operator or several fused ones, with its tangent and the transpose of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from latentjac.linearization.trace import Call, Meta, refs

Tensor = torch.Tensor


class Instruction:
    """One step of a program.

    Tangents of a slot of shape ``s`` have shape ``[P, *s]``: probes lead, so that the operators which know a
    batch see probes and points folded into it.

    Attributes:
        metas: Shape of every slot, and the type that the passes hold it in.
        calls: The traced calls it stands for; the first names it.
        outs: Slots it computes.
        inputs: Slots it depends on that depend on x, each once, in the order of the tangents it is given.
        defers: Whether a pass may compute what the primal left for it; not where the primal is replayed without this.
        accumulates: Whether ``cotangent`` can add to what an input already has.
    """

    accumulates: ClassVar[bool] = False
    defers = False

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        self.calls = [call]
        self.outs = call.outs
        self.inputs = tuple(slot for slot in call.reads if slot in active)
        self.metas = metas

    def copy(self, memo: dict[int, Instruction]) -> Instruction:
        """The same step with a base point of its own, also in the steps that it is made of.

        Args:
            memo: Copies that were made already, by the identity of what they are copies of.
        """
        if id(self) not in memo:
            memo[id(self)] = other = copy.copy(self)
            for name, value in vars(self).items():
                if isinstance(value, Instruction):
                    setattr(other, name, value.copy(memo))
                elif isinstance(value, (list, tuple)) and any(isinstance(item, Instruction) for item in value):
                    steps = [item.copy(memo) if isinstance(item, Instruction) else item for item in value]
                    setattr(other, name, type(value)(steps))
        return memo[id(self)]

    @property
    def kernel(self) -> str:
        """What computes it, for tables."""
        return "torch"

    @property
    def call(self) -> Call:
        """The first call."""
        return self.calls[0]

    @property
    def reads(self) -> tuple[int, ...]:
        """Slots whose values the primal reads."""
        inside = {slot for call in self.calls for slot in call.outs}
        return tuple(dict.fromkeys(s for call in self.calls for s in call.reads if s not in inside))

    def shape(self, slot: int) -> tuple[int, ...]:
        """Shape of a slot's value."""
        return self.metas[slot].shape

    def kept(self, env: dict[int, Tensor], slot: int) -> Tensor:
        """A value in the type that the passes hold the slot in, which can be shorter than that of the primal."""
        return env[slot].to(self.metas[slot].dtype)

    def primal(self, env: dict[int, Tensor]) -> None:
        """Compute the values of ``outs`` into ``env`` and keep what the passes need."""
        self.store(env, self.call.evaluate(env))

    def store(self, env: dict[int, Tensor], value: Any) -> None:
        """Put the result of the last call into ``env``."""
        env.update(zip(self.outs, value, strict=True) if self.calls[-1].multiple else [(self.outs[0], value)])

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor | Sequence[Tensor | None]:
        """Tangents of ``outs`` from tangents of ``inputs``; ``own[i]`` allows to overwrite ``t[i]``."""
        raise NotImplementedError

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """Cotangents of ``inputs`` from those of ``outs`` (None: zero); ``own[i]`` allows to overwrite ``u[i]``.

        Where ``into[i]`` is given and the instruction accumulates, it may add to that and return it.
        """
        raise NotImplementedError

    def flops(self) -> int:
        """Multiplications and additions of one tangent of one probe (the cotangent takes as many)."""
        return 0


class Inactive(Instruction):
    """A call through which nothing flows, though it may depend on x."""

    def primal(self, env: dict[int, Tensor]) -> None:
        """Compute the values of ``outs`` into ``env``."""
        try:
            value = self.call.evaluate(env)
        except RuntimeError:  # a view for the layout that its input had when f was traced
            value = self.call.evaluate({**env, **{slot: env[slot].contiguous() for slot in self.reads}})
        self.store(env, value)


Rule = Callable[[Call, set[int], dict[int, Meta]], Instruction | None]
RULES: dict[str, Rule] = {}


def rule(*targets: str, complex_too: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for operators: a class of instructions, or a function that returns one or None.

    Transposes are those of real numbers, with ``Re <u, v>`` as the product of complex ones; a rule that holds for these
    too is registered with ``complex_too``, any other leaves them to torch.func.
    """

    def register(make: Rule) -> Rule:
        for target in targets:
            RULES[target] = make if complex_too else _of_reals(make)
        return make

    return register


def _of_reals(make: Rule) -> Rule:
    def of_reals(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
        slots = (*call.outs, *(slot for slot in call.reads if slot in active))
        return None if any(metas[slot].dtype.is_complex for slot in slots) else make(call, active, metas)

    return of_reals


def convert(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A tangent in another dtype; only the real part of a complex one belongs to a real value."""
    return (t.real if t.is_complex() and not dtype.is_complex else t).to(dtype)


def only_active(call: Call, active: set[int], *names: str) -> bool:
    """Whether the active inputs of a call are just the named arguments."""
    rest = [value for name, value in call.arguments.items() if name not in names]
    return not any(slot in active for slot in refs(rest))


def single(u: Sequence[Tensor | None]) -> Tensor:
    """The cotangent of an instruction with one result; it runs only where there is one."""
    (w,) = u
    assert w is not None
    return w


def align(t: Tensor, ndim: int) -> Tensor:
    """A tangent with unit dimensions put behind the probes, so that it broadcasts like its value does."""
    missing = ndim + 1 - t.ndim
    return t.reshape(t.shape[0], *([1] * missing), *t.shape[1:]) if missing > 0 else t


def unbroadcast(u: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum a cotangent over the dimensions along which its input was broadcast."""
    extra = u.ndim - 1 - len(shape)
    dims = [d for d in range(1, u.ndim) if d <= extra or (shape[d - 1 - extra] == 1 and u.shape[d] != 1)]
    return (u.sum(dims, keepdim=True) if dims else u).reshape(u.shape[0], *shape) if dims or extra else u


def lay_out(probes: Tensor) -> Tensor:
    """Probes with channels last, where a point is an image."""
    if probes.ndim != 5:
        return probes
    folded = probes.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return folded.unflatten(0, probes.shape[:2])
