"""The programs made of a trace: primal, tangent and cotangent over one list of instructions."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

import latentjac.linearization.rules  # noqa: F401  (registers the rules)
from latentjac.kernels.guards import program_pass
from latentjac.linearization.arena import Arena
from latentjac.linearization.chunking import chunk_size, live_bytes
from latentjac.linearization.describe import describe
from latentjac.linearization.fusion import fuse
from latentjac.linearization.instruction import RULES, Inactive, Instruction, Tensor, lay_out
from latentjac.linearization.places import at
from latentjac.linearization.rules.fallback import Fallback
from latentjac.linearization.rules.shapes import Linear
from latentjac.linearization.surroundings import is_plain, ordinary, outside
from latentjac.linearization.trace import Call, DeclaredCall, Meta, Trace, TraceError
from latentjac.linearization.trial import try_out
from latentjac.linearization.ways import NoDerivativeError


class Program:
    """Instructions with what each pass needs to know about them.

    Args:
        trace: The function.
        lowered: Type in which the passes hold what is float32; the primal, and what norms and gates keep, stay float32.

    Attributes:
        instructions: All that depends on x, in order.
        metas: Shape and dtype of every slot as the passes hold it.
        arena: Memory of the passes.
        live_bytes: Most bytes of one probe's tangents that a pass needs at once; ``arena.peak_bytes`` is what was held.
    """

    def __init__(self, trace: Trace, lowered: torch.dtype | None = None) -> None:
        self._trace, self.metas = trace, _lower(trace.metas, lowered)
        self.arena = Arena()
        changing = {slot for slot in trace.constants if slot is not None}
        dependent, active = {trace.x}, {trace.x}
        once: list[Call] = []
        self._prologue: list[Call] = []
        instructions: list[Instruction] = []
        for call in trace.calls:
            if not dependent.isdisjoint(call.reads):
                instruction = self._instruction(call, active)
                instructions.append(instruction)
                dependent.update(call.outs)
                if instruction.inputs:
                    active.update(slot for slot in call.outs if self.metas[slot].smooth)
            elif not changing.isdisjoint(call.reads):
                self._prologue.append(call)
                changing.update(call.outs)
            else:
                once.append(call)
        self._active, self._tried = active, False
        self._frozen = {slot: ordinary(value) for slot, value in trace.frozen.items()}
        _run(once, self._frozen)
        self.instructions = fuse(instructions, trace.y)
        self._keep_needed()
        self._plan()

    def copy(self) -> Program:
        """The same instructions with a base point of their own; what does not depend on it is shared."""
        other, memo = copy.copy(self), dict[int, Instruction]()
        other.arena = Arena()
        other.instructions = [instruction.copy(memo) for instruction in self.instructions]
        other._passes = [instruction.copy(memo) for instruction in self._passes]
        return other

    def _instruction(self, call: Call, active: set[int]) -> Instruction:
        # Nothing flows through what is detached, or through indices and comparisons.
        smooth = any(self.metas[slot].smooth for slot in call.outs)
        through = active if smooth and not call.target.startswith("aten.detach") else set()
        if through.isdisjoint(call.reads):
            return Inactive(call, set(), self.metas)
        make = RULES.get(call.target)
        return (make(call, active, self.metas) if make else None) or self._fallback(call, active)

    def _fallback(self, call: Call, active: set[int], reason: str = "") -> Fallback:
        try:
            return Fallback(call, active, self.metas, reason)
        except NoDerivativeError as error:
            raise self._placed(error, call) from None

    def _placed(self, error: Exception, call: Call) -> Exception:
        place = at(call.declared.line) if isinstance(call, DeclaredCall) else self._trace.place(call.target)
        return type(error)(f"{error}{place}")

    def replace(self, failed: Instruction, reason: str) -> None:
        """Compute in another way what an instruction failed at, and others of its kind with it.

        Raises:
            TraceError: If there is no other way.
            NoDerivativeError: If it declares a derivative that cannot be taken.
        """
        kind = (type(failed), [call.target for call in failed.calls])
        instructions: list[Instruction] = []
        for instruction in self.instructions:
            if (type(instruction), [call.target for call in instruction.calls]) == kind:
                instructions.extend(self._otherwise(instruction, reason))
            else:
                instructions.append(instruction)
        self.instructions = instructions
        self._plan()

    def _otherwise(self, instruction: Instruction, reason: str) -> list[Instruction]:
        """The same computed in another way."""
        if isinstance(instruction, Fallback) and not isinstance(instruction, Linear):
            try:
                instruction.retreat(reason)
            except (NoDerivativeError, TraceError) as error:
                raise self._placed(error, instruction.call) from None
            return [instruction]
        if not instruction.inputs:
            raise TraceError(f"{instruction.call.target} failed: {reason}")
        return [self._alone(call, reason) for call in instruction.calls]

    def _alone(self, call: Call, reason: str) -> Instruction:
        if self._active.isdisjoint(call.reads):
            return Inactive(call, set(), self.metas)
        return self._fallback(call, self._active, reason)

    def _keep_needed(self) -> None:
        """Drop values that nothing needs any more, such as weights that were converted once."""
        needed = {slot for instruction in self.instructions for slot in instruction.reads}
        needed.update(slot for call in self._prologue for slot in call.reads)
        self._frozen = {slot: value for slot, value in self._frozen.items() if slot in needed or slot == self._trace.y}

    def _plan(self) -> None:
        """Which instructions the passes run, and after which of them a slot is not needed again."""
        useful = {self._trace.y}
        passes: list[Instruction] = []
        for instruction in reversed(self.instructions):
            if instruction.inputs and not useful.isdisjoint(instruction.outs):
                passes.append(instruction)
                useful.update(instruction.inputs)
        self._passes = passes[::-1]
        self.live_bytes, self._largest = live_bytes(self._passes, self.metas)
        slots = {slot for instruction in self._passes for slot in (*instruction.outs, *instruction.inputs)}
        self._entries = max((self.metas[slot].numel for slot in slots), default=1)
        self._useful = useful
        self._uses = Counter(slot for instruction in self._passes for slot in instruction.inputs)
        self._uses[self._trace.y] += 1
        self._reads = Counter(slot for instruction in self.instructions for slot in instruction.reads)

    @property
    def output(self) -> Meta:
        """Shape and dtype of the result."""
        return self._trace.metas[self._trace.y]

    def chunk_size(self, memory_limit: int | None = None) -> int:
        """How many probes to take at once."""
        return chunk_size(self.live_bytes, self._largest, self._device, memory_limit, self._entries)

    def describe(self) -> str:
        """The instructions as a table: operator, shapes, what computes it, bytes, FLOPs, and what it was fused from."""
        return describe(self._passes, self.metas, self.live_bytes)

    @property
    def x(self) -> int:
        """Slot of x."""
        return self._trace.x

    @property
    def fixed(self) -> list[int]:
        """Places of the constants whose values are part of the trace."""
        return sorted(self._trace.fixed)

    def holds(self, constants: Sequence[Any]) -> bool:
        """Whether constants have the values that are part of the trace, where any are."""
        return all(torch.equal(value, constants[i]) for i, value in self._trace.fixed.items())

    def try_out(self, x: Tensor, constants: Sequence[Any]) -> None:
        """Run everything once; what fails is computed in another way from then on. The first ``primal`` does this.

        Raises:
            TraceError: If it fails as a whole.
            NoDerivativeError: If f has an operator without a derivative.
        """
        self._tried = True
        with torch.no_grad(), outside(x.device):
            try_out(self, x, constants)
        self._trace.forget()

    def primal(self, x: Tensor, constants: Sequence[Any]) -> Tensor:
        """Evaluate the function and keep what the passes need at this point.

        Raises:
            TraceError: If the trace does not hold for the values of these constants, or the program fails.
        """
        if not self.holds(constants):
            raise TraceError("f reads the values of its constants, and these are others")
        if not self._tried:
            self.try_out(x, constants)
        with outside(x.device):
            env = self.values(x, constants)
            for instruction in self.steps(env):
                instruction.primal(env)
            return env[self._trace.y].contiguous()

    def values(self, x: Tensor, constants: Sequence[Any]) -> dict[int, Tensor]:
        """What the instructions start from, by slot."""
        trace = self._trace
        env = dict(self._frozen)
        for slot, value in zip(trace.constants, constants, strict=True):
            if slot is not None:
                # An object of its own: what is prepared of weights is kept as long as they are the same object.
                env[slot] = ordinary(value.detach())
        _run(self._prologue, env)
        self._device = x.device
        x = ordinary(x)
        env[trace.x] = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        return env

    def steps(self, env: dict[int, Tensor]) -> Iterator[Instruction]:
        """Instructions in order, for who runs each; values that are not needed again are dropped."""
        left = self._reads.copy()
        for instruction in self.instructions:
            yield instruction
            for slot in instruction.reads:
                left[slot] -= 1
                if not left[slot] and slot != self._trace.y:
                    del env[slot]

    def passes(self) -> Iterator[tuple[Instruction, list[int]]]:
        """Instructions that the passes run, in order, with the slots that are not needed after each."""
        left = self._uses.copy()
        for instruction in self._passes:
            left.subtract(instruction.inputs)
            yield instruction, [slot for slot in instruction.inputs if not left[slot]]

    def tangent(self, probes: Tensor) -> Tensor:
        """Tangents ``[P, *y.shape]`` of probes ``[P, *x.shape]``."""
        if not is_plain(probes.device):
            with outside(probes.device):
                return self.tangent(probes)
        with program_pass():
            return self._tangent(probes)

    def _tangent(self, probes: Tensor) -> Tensor:
        values = self.arena.values()
        laid = lay_out(probes.to(self.metas[self._trace.x].dtype))
        values.put(self._trace.x, laid, borrowed=laid.data_ptr() == probes.data_ptr())
        del laid
        left = self._uses.copy()
        for instruction in self._passes:
            for slot in instruction.inputs:
                left[slot] -= 1
            t = [values.get(slot) for slot in instruction.inputs]
            own = [not left[slot] and values.owned(slot) for slot in instruction.inputs]
            results = instruction.tangent(t, own)
            results = [results] if isinstance(results, Tensor) else results
            del t
            for slot, result in zip(instruction.outs, results, strict=True):
                if result is not None and left[slot]:
                    values.put(slot, result)
            for slot in instruction.inputs:
                if not left[slot]:
                    values.drop(slot)
        out = values.get(self._trace.y)
        return probes.new_zeros(len(probes), *self.output.shape) if out is None else out

    def cotangent(self, probes: Tensor) -> Tensor:
        """Cotangents ``[P, *x.shape]`` of probes ``[P, *y.shape]``."""
        if not is_plain(probes.device):
            with outside(probes.device):
                return self.cotangent(probes)
        with program_pass():
            return self._cotangent(probes)

    def _cotangent(self, probes: Tensor) -> Tensor:
        values = self.arena.values()
        laid = lay_out(probes.to(self.metas[self._trace.y].dtype))
        values.put(self._trace.y, laid, borrowed=laid.data_ptr() == probes.data_ptr())
        del laid
        for instruction in reversed(self._passes):
            u = [values.get(slot) for slot in instruction.outs]
            if all(w is None for w in u):
                continue
            own = [w is not None and values.owned(slot) for slot, w in zip(instruction.outs, u, strict=True)]
            outs = set(instruction.outs)
            into = [
                values.get(slot) if instruction.accumulates and slot not in outs and values.owned(slot) else None
                for slot in instruction.inputs
            ]
            results = instruction.cotangent(u, own, into)
            del u
            for slot in instruction.outs:
                values.drop(slot)
            for slot, result, target in zip(instruction.inputs, results, into, strict=True):
                if result is not None and result is not target:
                    values.add(slot, result)
            del results, into
        out = values.get(self._trace.x)
        return probes.new_zeros(len(probes), *self.metas[self._trace.x].shape) if out is None else out


def _lower(metas: dict[int, Meta], dtype: torch.dtype | None) -> dict[int, Meta]:
    """Metas with another type in place of float32."""
    if dtype is None:
        return metas
    if any(meta.dtype.is_complex for meta in metas.values()):
        raise TraceError("complex numbers have no short type")
    return {s: replace(m, dtype=dtype) if m.dtype == torch.float32 else m for s, m in metas.items()}


def _run(calls: Iterable[Call], env: dict[int, Tensor]) -> None:
    """Evaluate calls in order into ``env``."""
    for call in calls:
        value = call.evaluate(env)
        env.update(zip(call.outs, value, strict=True) if call.multiple else [(call.outs[0], value)])
