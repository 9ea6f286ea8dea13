"""Passes over a list of instructions that merge several into one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from latentjac.linearization.instruction import Instruction
from latentjac.linearization.rules.activations import Diagonal, Pointwise
from latentjac.linearization.rules.arithmetic import Add, Product
from latentjac.linearization.rules.contraction import Contraction
from latentjac.linearization.rules.convolution import Convolution
from latentjac.linearization.rules.gated import gated, is_halving
from latentjac.linearization.rules.linear_algebra import MatrixProduct, Project
from latentjac.linearization.rules.norms import Norm
from latentjac.linearization.rules.shapes import Parts
from latentjac.linearization.rules.stepped_attention import SteppedAttention, stepped_attention


def fuse(instructions: list[Instruction], y: int) -> list[Instruction]:
    """Apply all passes; instructions stay in an order in which values are there before they are read.

    Args:
        instructions: In order of the trace.
        y: Slot of the result, which must survive.
    """
    instructions = fuse_attention(instructions, y)
    instructions = fuse_gates(instructions, y)
    instructions = fuse_diagonals(instructions, y)
    instructions = fuse_projections(instructions)
    return fuse_residuals(instructions, y)


def _uses(instructions: Iterable[Instruction], y: int) -> Counter[int]:
    uses = Counter(slot for instruction in instructions for slot in instruction.reads)
    uses[y] += 1
    return uses


def _is_diagonal(instruction: Instruction, after: Instruction) -> bool:
    """Whether it acts on each entry of one value alone, without broadcasting that value."""
    if isinstance(instruction, Diagonal):
        same = True
    else:  # a sum with a constant
        same = isinstance(instruction, Add) and len(instruction.inputs) == 1 and instruction.weights == [1]
    one = len(instruction.inputs) == 1 and instruction.inputs[0] == after.outs[0]
    # Of another dtype, what the norm keeps would no longer suit the tangents that go into it.
    return same and one and instruction.metas[instruction.outs[0]] == after.metas[after.outs[0]]


def fuse_gates(instructions: list[Instruction], y: int) -> list[Instruction]:
    """Make one instruction of a product with an activation, and of the split that both sides may come from."""
    uses = _uses(instructions, y)
    activations = {i.outs[0]: i for i in instructions if isinstance(i, Pointwise) and uses[i.outs[0]] == 1}
    parts = {
        slot: i
        for i in instructions
        if isinstance(i, Parts) and is_halving(i) and all(uses[half] == 1 for half in i.outs)
        for slot in i.outs
    }
    made = {i: gated(i, activations, parts) for i in instructions if type(i) is Product}
    merged = {step for whole in made.values() if whole is not None for step in whole.steps[:-1]}
    kept = (i for i in instructions if i not in merged)
    return [(made.get(i) if isinstance(i, Product) else None) or i for i in kept]


def fuse_attention(instructions: list[Instruction], y: int) -> list[Instruction]:
    """Make one instruction of a product of queries and keys, a softmax over keys and a product with values."""
    uses = _uses(instructions, y)
    makers = {i.outs[0]: i for i in instructions if len(i.outs) == 1 and uses[i.outs[0]] == 1}
    last = [i for i in instructions if type(i) is MatrixProduct or isinstance(i, Contraction)]
    made: dict[Instruction, SteppedAttention | None] = {i: stepped_attention(i, makers) for i in last}
    merged = {step for whole in made.values() if whole is not None for step in whole.steps[:-1]}
    kept = (i for i in instructions if i not in merged)
    return [made.get(i) or i for i in kept]


def fuse_diagonals(instructions: list[Instruction], y: int) -> list[Instruction]:
    """Put scales, shifts and activations behind a norm into its factor ``a``."""
    uses = _uses(instructions, y)
    norms: dict[int, Norm] = {}  # by the slot that the norm and what is behind it end in
    out: list[Instruction] = []
    for instruction in instructions:
        norm = norms.get(instruction.inputs[0]) if len(instruction.inputs) == 1 else None
        if norm is not None and uses[norm.outs[0]] == 1 and _is_diagonal(instruction, norm):
            # What it reads may be computed after the norm, so the two meet where the later one was.
            out.remove(norm)
            del norms[norm.outs[0]]
            norm.absorb(instruction)
            out.append(norm)
            norms[norm.outs[0]] = norm
            continue
        if isinstance(instruction, Norm):
            norms[instruction.outs[0]] = instruction
        out.append(instruction)
    return out


def fuse_projections(instructions: list[Instruction]) -> list[Instruction]:
    """Merge linear layers of the same input, such as queries, keys and values, into one product."""
    first: dict[int, Project] = {}
    out: list[Instruction] = []
    for instruction in instructions:
        if isinstance(instruction, Project):
            earlier = first.get(instruction.inputs[0])
            if earlier is not None:
                earlier.absorb(instruction)
                continue
            first[instruction.inputs[0]] = instruction
        out.append(instruction)
    return out


def fuse_residuals(instructions: list[Instruction], y: int) -> list[Instruction]:
    """Let a convolution or linear layer add its result to the other summand, where the sum is all that uses it."""
    uses = _uses(instructions, y)
    makers: dict[int, Convolution | Project] = {}
    out: list[Instruction] = []
    for instruction in instructions:
        if isinstance(instruction, Add) and instruction.is_plain_sum:
            maker = next((makers[s] for s in reversed(instruction.inputs) if s in makers and uses[s] == 1), None)
            other = sum(instruction.inputs) - maker.outs[0] if maker is not None else -1
            if maker is not None and other != maker.inputs[0]:
                del makers[maker.outs[0]]
                out.remove(maker)
                maker.add_to(instruction, other)
                out.append(maker)
                continue
        if isinstance(instruction, (Convolution, Project)) and len(instruction.outs) == 1:
            makers[instruction.outs[0]] = instruction
        out.append(instruction)
    return out
