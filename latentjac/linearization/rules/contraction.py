"""Sums of products over shared indices (einsum)."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from latentjac.linearization.instruction import Instruction, Tensor, rule, single
from latentjac.linearization.trace import Call, Meta


@dataclass
class _Equation:
    """Letters of each operand and of the result."""

    operands: list[str]
    result: str


def _parse(equation: str, ndims: Sequence[int]) -> _Equation | None:
    """The equation with letters for what an ellipsis stands for; None where an operand has a letter twice."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    if "." in left:
        counts = [ndim - len(letters.replace("...", "")) for letters, ndim in zip(operands, ndims, strict=True)]
        filler = "".join(free[: max(c for c, letters in zip(counts, operands, strict=True) if "." in letters)])
        operands = [
            letters.replace("...", filler[len(filler) - count :])
            for letters, count in zip(operands, counts, strict=True)
        ]
        right = right.replace("...", filler)
    else:
        filler = ""
    if not arrow:
        once = sorted(c for c in set("".join(operands)) if "".join(operands).count(c) == 1 and c not in filler)
        right = filler + "".join(once)
    repeated = any(len(set(letters)) < len(letters) for letters in operands)
    return None if repeated else _Equation(operands, right)


@rule("aten.einsum.default")
def einsum(call: Call, active: set[int], metas: dict[int, Meta]) -> Instruction | None:
    """A contraction of tensors without diagonals and without broadcasting of indices."""
    slots = [ref.slot for ref in call.arguments["tensors"]]
    equation = _parse(call.arguments["equation"], [len(metas[slot].shape) for slot in slots])
    if equation is None:
        return None
    sizes: dict[str, set[int]] = {}
    for letters, slot in zip(equation.operands, slots, strict=True):
        for letter, size in zip(letters, metas[slot].shape, strict=True):
            sizes.setdefault(letter, set()).add(size)
    return Contraction(call, active, metas, equation) if all(len(found) == 1 for found in sizes.values()) else None


class Contraction(Instruction):
    """Linear in each operand: the tangent is the sum of contractions with one operand replaced by its tangent."""

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta], equation: _Equation) -> None:
        super().__init__(call, active, metas)
        self._slots = [ref.slot for ref in call.arguments["tensors"]]
        self._equation = equation
        used = set("".join(equation.operands))
        self._probe = next(letter for letter in string.ascii_letters if letter not in used)

    @property
    def factors(self) -> tuple[int, int, bool] | None:
        """Slots of A and B, and whether it is ``A B^T`` and not ``A B``; None if it is neither."""
        if len(self._slots) != 2:
            return None
        (first, second), result = self._equation.operands, self._equation.result
        if min(map(len, (first, second, result))) < 2 or not first[:-2] == second[:-2] == result[:-2]:
            return None
        if first[-2] != result[-2]:
            return None
        outer = [first[-1], result[-1]]
        if outer in (list(second[-2:]), list(second[:-3:-1])):
            return self._slots[0], self._slots[1], outer != list(second[-2:])
        return None

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._values = [self.kept(env, slot) for slot in self._slots]

    def _others(self, place: int) -> tuple[list[str], list[Tensor]]:
        pairs = [p for i, p in enumerate(zip(self._equation.operands, self._values, strict=True)) if i != place]
        return [letters for letters, _ in pairs], [value for _, value in pairs]

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor:
        given, total = dict(zip(self.inputs, t, strict=True)), None
        for place, slot in enumerate(self._slots):
            if slot in given:
                letters, values = self._others(place)
                left = ",".join([self._probe + self._equation.operands[place], *letters])
                term = torch.einsum(f"{left}->{self._probe}{self._equation.result}", given[slot], *values)
                total = term if total is None else total + term
        assert total is not None
        return total

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        w = single(u)
        total: dict[int, Tensor] = {}
        for place, slot in enumerate(self._slots):
            if slot in self.inputs:
                part = self._pulled(place, w)
                total[slot] = total[slot] + part if slot in total else part
        return [total[slot] for slot in self.inputs]

    def _pulled(self, place: int, w: Tensor) -> Tensor:
        """The cotangent of one operand; along an index that only it has, which was summed over, all entries agree."""
        own = self._equation.operands[place]
        letters, values = self._others(place)
        there = set(self._equation.result).union(*letters)
        found = "".join(letter for letter in own if letter in there)
        left = ",".join([self._probe + self._equation.result, *letters])
        part = torch.einsum(f"{left}->{self._probe}{found}", w, *values)
        for d, letter in enumerate(own):
            if letter not in there:
                part = part.unsqueeze(d + 1)
        return part.expand(-1, *self.shape(self._slots[place]))

    def flops(self) -> int:
        sizes = {
            letter: size
            for letters, slot in zip(self._equation.operands, self._slots, strict=True)
            for letter, size in zip(letters, self.shape(slot), strict=True)
        }
        count = 2
        for size in sizes.values():
            count *= size
        return count * sum(slot in self.inputs for slot in self._slots)
