"""Checks of arguments that several layers take: each names the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

import torch


def check_generator(function: str, generator: object) -> None:
    """Raise unless it is a generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"{function}: generator must be a torch.Generator or None, got {type(generator).__name__}")


def check_choice(function: str, argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless a name is one of the known ones."""
    if value not in choices:
        raise ValueError(f"{function}: {argument} must be one of {list(choices)}, got {value!r}")


def check_int(function: str, argument: str, value: Any, least: int | None = None, *, optional: bool = False) -> None:
    """Raise unless value is an int, of at least ``least``; with ``optional`` it may be None."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        expected = "an int or None" if optional else "an int"
        raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")
    if least is not None and value < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {value}")


def check_number(
    function: str, argument: str, value: Any, low: float, high: float, *, least: bool = False, optional: bool = False
) -> None:
    """Raise unless value is a number in (low, high), or in [low, high) with ``least``; as an option it may be None."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        expected = "a number or None" if optional else "a number"
        raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")
    if not (low < value < high or (least and value == low)):
        bracket = "[" if least else "("
        raise ValueError(f"{function}: {argument} must be a number in {bracket}{low}, {high}), got {value!r}")


def check_left(function: str, argument: str, value: Any, usual: Any, where: str) -> None:
    """Raise unless an option is at its default, where it would have no effect."""
    same = value is usual or (isinstance(value, (bool, int, float, str)) and value == usual)
    if not same:
        raise ValueError(f"{function}: {argument} must be left at {usual!r} {where}, got {value!r}")
