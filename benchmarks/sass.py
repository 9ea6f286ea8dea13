"""Reads machine code as nvdisasm prints it: which instructions of a kernel move memory, multiply and wait.

Counted are instructions as they stand in the code, not as often as they run; those in loops are counted once more.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FUNCTION = re.compile(r"\.text\.([^\s:]+):")
LABEL = re.compile(r"(\.L_x_\d+):")
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(@!?U?P\w+ +)?([A-Z][\w.]*) *(.*);")
TARGET = re.compile(r"\.L_x_\d+")
MEMORY = re.compile(r"(LDG|STG|LD|ST|LDS|STS|LDGSTS)\b")
LONG_DIVISION = re.compile(r"(?:div|rem)_[su]64")


@dataclass
class Code:
    """The instructions of one kernel: opcodes in their order, and where each may go next."""

    opcodes: list[str] = field(default_factory=list)
    operands: list[str] = field(default_factory=list)
    conditional: list[bool] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def successors(self, i: int) -> list[int]:
        """Where instruction i may go. A call comes back; BSSY only says where threads will meet again."""
        opcode = self.opcodes[i]
        kind = opcode.split(".")[0]
        ends = kind in ("EXIT", "RET", "BRX") or (opcode == "BRA" and "P" not in self.operands[i].split("`")[0])
        to = [] if ends and not self.conditional[i] else [i + 1]
        if kind in ("BRA", "BRX", "CALL", "WARPSYNC"):
            to += [self.labels[label] for label in TARGET.findall(self.operands[i])]
        return [j for j in to if j < len(self.opcodes)]

    def in_loops(self) -> list[bool]:
        """Which instructions may come again after themselves: those that share a strong component of the flow."""
        count = len(self.opcodes)
        edges = [(i, j) for i in range(count) for j in self.successors(i)]
        if not edges:
            return [False] * count
        rows, columns = zip(*edges, strict=True)
        graph = coo_array(([True] * len(edges), (rows, columns)), shape=(count, count))
        components = connected_components(graph, connection="strong")[1].tolist()
        sizes = Counter(components)
        return [sizes[component] > 1 for component in components]


def kernels(text: str) -> dict[str, Code]:
    """The kernels of a listing, by their mangled names."""
    found: dict[str, Code] = {}
    code = Code()
    for line in text.splitlines():
        if match := INSTRUCTION.match(line):
            code.conditional.append(match[1] is not None)
            code.opcodes.append(match[2])
            code.operands.append(match[3])
        elif match := LABEL.match(line):
            code.labels[match[1]] = len(code.opcodes)
        elif match := FUNCTION.match(line):
            code = found.setdefault(match[1], Code())
    return found


def kind(opcode: str, operands: str = "") -> str | None:
    """What an instruction counts as: moves with their bits, products with their shape; None: not counted."""
    if match := MEMORY.match(opcode):
        bits = re.search(r"\.[SU]?(8|16|64|128)(?:\.|$)", opcode)
        return f"{match[1]}.{bits[1] if bits else 32}"
    head = opcode.split(".")[0]
    if head in ("HMMA", "DMMA", "IMMA", "HGMMA"):
        return opcode
    if head == "CALL":
        return "64-bit division" if LONG_DIVISION.search(operands) else None
    return head if head in ("LDSM", "LDL", "STL", "BAR") else None


def counts(code: Code) -> dict[str, dict[str, int]]:
    """How many instructions of each kind there are, ``everywhere`` and ``in loops``."""
    kinds = [kind(*instruction) for instruction in zip(code.opcodes, code.operands, strict=True)]
    looped = code.in_loops()
    inside = Counter(name for name, inner in zip(kinds, looped, strict=True) if name and inner)
    return {
        "everywhere": dict(sorted(Counter(filter(None, kinds)).items())),
        "in loops": dict(sorted(inside.items())),
    }
