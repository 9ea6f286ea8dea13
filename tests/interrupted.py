"""Ctrl-C in the middle of a decomposition."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from latentjac.solvers.operator import Products


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *products: int) -> list[int]:
    """Ctrl-C in the products of these numbers, counted over all decompositions from 1; what counts them."""
    count = [0]

    def interrupted(apply: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Products, rows: Any) -> Any:
            count[0] += 1
            if count[0] in products:
                signal.raise_signal(signal.SIGINT)
            return apply(self, rows)

        return call

    for name in ("forward", "backward"):
        monkeypatch.setattr(Products, name, interrupted(getattr(Products, name)))
    return count
