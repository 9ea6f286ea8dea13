"""Tries a program out at its first point: an instruction that fails, or whose passes are not adjoint, is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from latentjac.linearize.instruction import Instruction, Tensor, lay_out
from latentjac.linearize.rules.fallback import Fallback
from latentjac.linearize.trace import TraceError

if TYPE_CHECKING:
    from latentjac.linearize.program import Program


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
    generator = torch.Generator(x.device).manual_seed(0)
    values = {program.x: lay_out(_like(x[None].to(program.metas[program.x].dtype), generator))}
    for instruction, last in program.passes():
        if any(slot not in values for slot in instruction.inputs):
            continue  # what it would be given is zero
        t = [_like(values[slot], generator) for slot in instruction.inputs]
        for slot, result in zip(instruction.outs, _try_pair(instruction, t, generator), strict=True):
            if result is not None:
                values[slot] = result
        for slot in last:
            values.pop(slot, None)


def _like(t: Tensor, generator: torch.Generator) -> Tensor:
    """A random tensor that lies in memory as another does."""
    return torch.empty_like(t).normal_(generator=generator)


def _run(instruction: Instruction, step: Any, *args: Any) -> Any:
    try:
        return step(*args)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        if "not enough memory" in str(error) or "can't allocate" in str(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise _Failure(instruction, f"{type(error).__name__}: {reason}") from error


def _try_pair(instruction: Instruction, t: list[Tensor], generator: torch.Generator) -> list[Tensor | None]:
    """Its tangents of t, after a check of the cotangents against them."""
    kept = [v.clone() for v in t]
    out = _run(instruction, instruction.tangent, t, [False] * len(t))
    pushed: list[Tensor | None] = [out] if isinstance(out, Tensor) else list(out)
    # In the direction of the result a wrong factor shows in full; the random part shows what should be zero.
    u = [None if p is None else _unit(p) + _unit(_like(p, generator)) for p in pushed]
    if all(w is None for w in u):
        return pushed
    given = [None if w is None else w.clone() for w in u]
    pulled = _run(instruction, instruction.cotangent, given, [False] * len(u), [None] * len(t))
    eps = max(_eps(v.dtype, v.is_cuda) for v in (*u, *kept) if v is not None)
    mismatch = _mismatch(u, pushed, list(pulled), kept, eps)
    certain = isinstance(instruction, Fallback) and instruction.adjoint
    if mismatch > 1 and not certain:
        raise _Failure(instruction, "its two passes are not adjoint")
    return pushed


def _unit(t: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(t, dtype=_wide(t))
    return (t / norm.clamp_min(torch.finfo(norm.dtype).tiny)).to(t.dtype)


def _wide(t: Tensor) -> torch.dtype:
    return torch.complex128 if t.is_complex() else torch.float64


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> float:
    """``Re <a, b>``."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return sum((x.to(_wide(x)).conj() * y.to(_wide(y))).sum().real.item() for x, y in pairs)


def _mismatch(
    u: Sequence[Tensor | None],
    jv: Sequence[Tensor | None],
    jtu: Sequence[Tensor | None],
    v: Sequence[Tensor | None],
    eps: float,
) -> float:
    """Difference of ``<u, Jv>`` and ``<J^T u, v>``, as a multiple of what rounding allows."""
    first, second = _dot(u, jv), _dot(jtu, v)
    sizes = [_dot(a, a) ** 0.5 for a in (u, jv, jtu, v)]
    allowed = eps**0.5 * (sizes[0] * sizes[1] + sizes[2] * sizes[3]) + 100 * eps * sizes[0] * sizes[3]
    difference = abs(first - second)
    # What is not finite at this point says nothing of the rule.
    return difference / allowed if difference == difference and allowed > 0 else 0.0


def _eps(dtype: torch.dtype, on_gpu: bool) -> float:
    eps = torch.finfo(dtype).eps
    # Factors may have been rounded to tf32.
    return max(eps, 2.0**-10) if on_gpu and dtype in (torch.float32, torch.complex64) else eps


def _try_passes(program: Program, x: Tensor) -> None:
    generator = torch.Generator(x.device).manual_seed(1)
    v = _like(x[None], generator)
    try:
        jv = program.tangent(v)
        u = _unit(jv) + _unit(_like(jv, generator))
        eps = max((_eps(meta.dtype, x.is_cuda) for meta in program.metas.values() if meta.smooth), default=0.0)
        mismatch = _mismatch([u], [jv], [program.cotangent(u)], [v], eps)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        if "not enough memory" in str(error) or "can't allocate" in str(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise TraceError(f"a pass failed: {type(error).__name__}: {reason}") from error
    if mismatch > 10:  # beyond what the roundings of all instructions add up to
        raise TraceError("the passes are not adjoint")
