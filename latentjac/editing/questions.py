"""What walks ask the network: they stop at a question, and what several ask at the same time is answered in one call.

A walk is a generator of questions that gets the answers sent. One that ends earlier than others leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from latentjac.models import Conditioning

T = TypeVar("T")
Answer = tuple[torch.Tensor, ...]
Asking = Generator["Question", Answer, T]  # hands back what it was asking for


@dataclass(frozen=True, eq=False)
class Question:
    """What is wanted of samples, of each whatever others there are.

    Attributes:
        answer: Gives tensors with a row for each sample, from those in ``rows`` and the conditioning.
        same: What two questions have in common whose samples can be answered together.
        rows: Tensors with a row for each sample.
        conditioning: With one row, or one a sample.
        last: Wait until nobody asks anything else: what follows takes long, and others may come to it, too.
    """

    answer: Callable[..., Answer]
    same: Hashable
    rows: tuple[torch.Tensor, ...]
    conditioning: Conditioning
    last: bool = False

    def joins(self, other: Question) -> bool:
        """Whether both can be answered in one call."""
        return self.same == other.same and self.conditioning._joins(other.conditioning)


def asking(found: T | Asking[T]) -> Asking[T]:
    """What asks, or is known without."""
    if isinstance(found, Generator):
        return (yield from found)
    return found


def answered(askings: Sequence[Asking[T]]) -> list[T]:
    """What all of them come to, the questions of each round answered together."""
    found: dict[int, T] = {}
    waiting: dict[int, Question] = {}

    def go_on(number: int, answer: Answer | None) -> None:
        waiting.pop(number, None)
        try:
            waiting[number] = askings[number].send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            found[number] = end.value

    try:
        for number in range(len(askings)):
            go_on(number, None)
        while waiting:
            for group in _groups(waiting):
                answers = _answers([waiting[number] for number in group])
                for number, answer in zip(group, answers, strict=True):
                    go_on(number, answer)
    finally:
        for each in askings:
            each.close()
    return [found[number] for number in range(len(askings))]


def _groups(waiting: dict[int, Question]) -> list[list[int]]:
    """Who is to be answered in this round, those together that can be."""
    now = [number for number, question in waiting.items() if not question.last] or list(waiting)
    groups: list[list[int]] = []
    for number in sorted(now):
        group = next((group for group in groups if waiting[group[0]].joins(waiting[number])), None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return groups


def _answers(questions: Sequence[Question]) -> list[Answer]:
    """Each one's part of the answer to all."""
    first = questions[0]
    if len(questions) == 1:
        return [first.answer(*first.rows, first.conditioning)]
    counts = [len(question.rows[0]) for question in questions]
    rows = [torch.cat(each) for each in zip(*(question.rows for question in questions), strict=True)]
    found = first.answer(*rows, Conditioning._joined([q.conditioning for q in questions], counts))
    return list(zip(*(values.split(counts) for values in found), strict=True))
