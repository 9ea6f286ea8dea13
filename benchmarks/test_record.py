"""Timing in alternation, with a clock that does not depend on the machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import record


def recorded(calls: list[str]) -> dict[str, Callable[[], object]]:
    return {name: lambda name=name: calls.append(name) for name in ("a", "b")}


def test_cases_alternate_after_one_round_to_warm_up() -> None:
    calls: list[str] = []
    ticks = itertools.count()
    found = record.times(recorded(calls), 4, math.inf, clock=lambda: float(next(ticks)))
    assert calls == ["a", "b"] * 5
    assert found == {"a": [1.0] * 4, "b": [1.0] * 4}


def test_time_ends_the_rounds_but_not_before_three() -> None:
    calls: list[str] = []
    assert {name: len(values) for name, values in record.times(recorded(calls), 9, 0.0).items()} == {"a": 3, "b": 3}


def test_the_median_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "times", lambda *_: {"a": [1.0, 7.0, 2.0]})
    assert record.alternate({}) == {"a": 2.0}
