"""Tries a program out at its first point: an instruction that fails, or whose passes are not adjoint, is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from latentjac.linearization.adjointness import answer, mismatch, random_like, spacing_of
from latentjac.linearization.allocator import is_out_of_memory
from latentjac.linearization.instruction import Instruction, Tensor, lay_out
from latentjac.linearization.rules.fallback import Fallback
from latentjac.linearization.trace import TraceError

if TYPE_CHECKING:
    from latentjac.linearization.program import Program


class _Failure(Exception):
    """An instruction did not do what it should."""

    def __init__(self, instruction: Instruction, reason: str) -> None:
        super().__init__(reason)
        self.instruction, self.reason = instruction, reason


def try_out(program: Program, x: Tensor, constants: Sequence[Any]) -> None:
    """Run the primal, and each pass with one random probe, until nothing fails.

    Raises:
        TraceError: If the whole fails where no part does, or a part for which nothing else is known.
        NoDerivativeError: If that part declares a derivative that cannot be taken.
    """
    while True:
        try:
            _try_instructions(program, x, constants)
        except _Failure as failure:
            program.replace(failure.instruction, failure.reason)
            continue
        _try_passes(program, x)
        return


def _try_instructions(program: Program, x: Tensor, constants: Sequence[Any]) -> None:
    env = program.values(x, constants)
    for instruction in program.steps(env):
        _run(instruction, instruction.primal, env)
    del env
    generator = torch.Generator().manual_seed(0)
    values = {program.x: lay_out(random_like(x[None].to(program.metas[program.x].dtype), generator))}
    for instruction, last in program.passes():
        if any(slot not in values for slot in instruction.inputs):
            continue  # what it would be given is zero
        t = [random_like(values[slot], generator) for slot in instruction.inputs]
        for slot, result in zip(instruction.outs, _try_pair(instruction, t, generator), strict=True):
            if result is not None:
                values[slot] = result
        for slot in last:
            values.pop(slot, None)


def _run(instruction: Instruction, step: Any, *args: Any) -> Any:
    with _naming(lambda reason: _Failure(instruction, reason)):
        return step(*args)


@contextmanager
def _naming(failure: Callable[[str], Exception]) -> Iterator[None]:
    """Errors become a failure with what they say; running out of memory is none."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise failure(f"{type(error).__name__}: {reason}") from error


def _try_pair(instruction: Instruction, t: list[Tensor], generator: torch.Generator) -> list[Tensor | None]:
    """Its tangents of t, after a check of the cotangents against them."""
    kept = [v.clone() for v in t]
    out = _run(instruction, instruction.tangent, t, [False] * len(t))
    pushed: list[Tensor | None] = [out] if isinstance(out, Tensor) else list(out)
    u = [None if p is None else answer(p, generator) for p in pushed]
    if all(w is None for w in u):
        return pushed
    given = [None if w is None else w.clone() for w in u]
    pulled = _run(instruction, instruction.cotangent, given, [False] * len(u), [None] * len(t))
    eps = max(spacing_of(v.dtype, v.is_cuda) for v in (*u, *kept) if v is not None)
    wrong = mismatch(u, pushed, list(pulled), kept, eps**0.5, 100 * eps) > 1
    certain = isinstance(instruction, Fallback) and instruction.adjoint
    if wrong and not certain:
        raise _Failure(instruction, "its two passes are not adjoint")
    return pushed


def _try_passes(program: Program, x: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    v = random_like(x[None], generator)
    with _naming(lambda reason: TraceError(f"a pass failed: {reason}")):
        jv = program.tangent(v)
        u = answer(jv, generator)
        eps = max(spacing_of(meta.dtype, x.is_cuda) for meta in program.metas.values() if meta.smooth)
        # Roundings of all instructions add up.
        wrong = mismatch([u], [jv], [program.cotangent(u)], [v], 10 * eps**0.5, 1000 * eps) > 1
    if wrong:
        raise TraceError("the passes are not adjoint")
