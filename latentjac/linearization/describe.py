"""A program as a table that can be checked against the network."""

from __future__ import annotations

from collections.abc import Sequence

from latentjac.linearization.instruction import Instruction
from latentjac.linearization.rules.fallback import Fallback
from latentjac.linearization.trace import Meta

_HEADER = ("#", "instruction", "operator", "inputs", "output", "computed by", "bytes", "FLOPs", "fused from")


def describe(passes: Sequence[Instruction], metas: dict[int, Meta], live_bytes: int) -> str:
    """One line an instruction; bytes and FLOPs are those of one probe in one pass, views move no bytes."""
    rows = [_HEADER, *(_row(i, instruction, metas) for i, instruction in enumerate(passes))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
    total = sum(nbytes(instruction, metas) for instruction in passes)
    flops = sum(instruction.flops() for instruction in passes)
    costs = f"{_si(total)}B and {_si(flops)}FLOP a probe and pass, {_si(live_bytes)}B live at once"
    lines.append(f"{len(passes)} instructions, {costs}")
    slow = sorted({instruction.call.target for instruction in passes if instruction.kernel == Fallback.kernel})
    if slow:
        lines.append(f"without a rule, computed by torch.func: {', '.join(slow)}")
    return "\n".join(lines)


def nbytes(instruction: Instruction, metas: dict[int, Meta]) -> int:
    """Bytes that one probe's tangent reads and writes; none where it is a view."""
    if instruction.kernel == "view":
        return 0
    return sum(metas[slot].nbytes for slot in (*instruction.inputs, *instruction.outs))


def _row(number: int, instruction: Instruction, metas: dict[int, Meta]) -> tuple[str, ...]:
    operator = instruction.call.target.removeprefix("aten.").removesuffix(".default")
    fused = [call.name for call in instruction.calls]
    return (
        str(number),
        instruction.call.name,
        operator,
        " ".join(_shape(metas[slot]) for slot in instruction.inputs),
        " ".join(_shape(metas[slot]) for slot in instruction.outs),
        instruction.kernel,
        _si(nbytes(instruction, metas)),
        _si(instruction.flops()),
        " + ".join(fused) if len(fused) > 1 else "",
    )


def _shape(meta: Meta) -> str:
    return "x".join(map(str, meta.shape)) or "scalar"


def _si(value: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000 or unit == "T":
            return f"{value:.3g} {unit}"
        value /= 1000
    return ""
