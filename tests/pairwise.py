"""Fewer cases than all combinations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any


def pairwise(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows with one value of each factor, in which each value meets each value of every other factor.

    Most faults need two values together, not more (Kuhn, Wallace & Gallo 2004). Greedy, and the same every time.
    """
    sizes = [range(len(values)) for values in factors]
    missing = {
        ((i, a), (j, b)) for i, j in combinations(range(len(factors)), 2) for a, b in product(sizes[i], sizes[j])
    }
    rows = []
    while missing:
        row = dict(min(missing))
        for factor, size in enumerate(sizes):
            if factor not in row:
                gains = [
                    sum(tuple(sorted(((factor, value), other))) in missing for other in row.items()) for value in size
                ]
                row[factor] = gains.index(max(gains))
        missing -= set(combinations(sorted(row.items()), 2))
        rows.append(tuple(values[row[factor]] for factor, values in enumerate(factors)))
    return rows
