"""Checks of arguments that several layers take: each names the argument, what was expected and what came.

What a check returns is the value in its plain form: the int of a NumPy integer, the float of a NumPy number, the one of
the choices that a string equals.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST = 1e100  # entry of a tensor: squares of products with it stay finite in float64
_LONGEST = 80  # characters of a value in a message

Kind = TypeVar("Kind")


def shown(value: Any) -> str:
    """A value as messages show it: short, and whatever its ``repr`` does."""
    if isinstance(value, torch.Tensor):
        return f"a {value.dtype} tensor of {value.ndim} dimensions"
    try:
        text = repr(value)
    except Exception:  # of an endless list, of an int of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_kind(
    function: str,
    argument: str,
    value: Any,
    kind: type[Kind] | tuple[type, ...],
    expected: str,
    *,
    optional: bool = False,
) -> Any:
    """The value, if it is of a kind that ``expected`` describes; with ``optional`` it may be None."""
    if isinstance(value, kind) or (optional and value is None):
        return value
    expected = f"{expected} or None" if optional else expected
    raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")


def check_callable(function: str, argument: str, value: Any, *, optional: bool = False) -> Any:
    """The value, if it can be called; with ``optional`` it may be None."""
    if callable(value) or (optional and value is None):
        return value
    expected = "callable or None" if optional else "callable"
    raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")


def check_generator(function: str, generator: object) -> None:
    """Raise unless it is a generator or None."""
    check_kind(function, "generator", generator, torch.Generator, "a torch.Generator", optional=True)


def check_bool(function: str, argument: str, value: Any) -> bool:
    """The bool that a value is; numbers are none."""
    return bool(check_kind(function, argument, value, (bool, np.bool_), "a bool"))


def check_text(function: str, argument: str, value: Any, *, optional: bool = False) -> Any:
    """The value, if it is text that can be written; with ``optional`` it may be None."""
    check_kind(function, argument, value, str, "a str", optional=optional)
    if value is not None and any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{function}: {argument} must be text without NUL and lone surrogates, got {shown(value)}")
    return value


def check_choice(function: str, argument: str, value: Any, choices: Sequence[str], *, optional: bool = False) -> Any:
    """The one of the known names that a string is; with ``optional`` it may be None."""
    if optional and value is None:
        return None
    known = f"{'None or ' if optional else ''}one of {list(choices)}"
    if not isinstance(value, str):
        raise TypeError(f"{function}: {argument} must be {known}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{function}: {argument} must be {known}, got {shown(value)}")
    return choices[choices.index(value)]


def is_int(value: Any) -> bool:
    """Whether a value is a whole number: an int or NumPy's, not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number: an int, a float, a fraction or NumPy's, not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_int(
    function: str,
    argument: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    *,
    optional: bool = False,
) -> Any:
    """The int that a value is, of at least ``least`` and at most ``most``; with ``optional`` it may be None."""
    if optional and value is None:
        return None
    if not is_int(value):
        expected = "an int or None" if optional else "an int"
        raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {shown(number)}")
    if most is not None and number > most:
        raise ValueError(f"{function}: {argument} must be at most {most}, got {shown(number)}")
    return number


def check_number(
    function: str,
    argument: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    least: bool = False,
    most: bool = False,
    optional: bool = False,
) -> Any:
    """The float of a number between two, which ``least`` and ``most`` take in; with ``optional`` it may be None."""
    if optional and value is None:
        return None
    if not is_number(value):
        expected = "a number or None" if optional else "a number"
        raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")
    number = as_float(value)
    if not (low < number < high or (least and number == low) or (most and number == high)):
        span = f"{'[' if least else '('}{low}, {high}{']' if most else ')'}"
        raise ValueError(f"{function}: {argument} must be a number in {span}, got {shown(value)}")
    return number


def as_float(value: Any) -> float:
    """The float nearest to a number; infinite where there is none so large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_path(function: str, argument: str, value: Any) -> Path:
    """The path of a file that can be written: in a folder that is there, and no folder itself."""
    check_kind(function, argument, value, (str, Path), "a str or Path")
    path = Path(value)
    if not _is_name(str(path)) or not path.name or path.is_dir():
        raise ValueError(f"{function}: {argument} must be the name of a file, got {shown(str(value))}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{function}: {argument} must lie in an existing folder, got {shown(str(value))}")
    return path


def _is_name(text: str) -> bool:
    """Whether the system can have a file of this name; one that is not UTF-8 has lone surrogates in Python."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def check_left(function: str, argument: str, value: Any, usual: Any, where: str) -> None:
    """Raise unless an option is at its default, where it would have no effect."""
    plain = isinstance(value, (Real, str)) and isinstance(value, bool) == isinstance(usual, bool)
    if not (value is usual or (plain and value == usual)):
        raise ValueError(f"{function}: {argument} must be left at {usual!r} {where}, got {shown(value)}")


def check_device(function: str, argument: str, value: Any, *, optional: bool = False) -> Any:
    """The device of a name, which may not be one that holds no values; with ``optional`` it may be None."""
    if optional and value is None:
        return None
    check_kind(function, argument, value, (str, torch.device), "a str or torch.device")
    try:
        device = torch.device(value)
    except (RuntimeError, ValueError):
        device = None
    if device is None or device.type == "meta":
        raise ValueError(f"{function}: {argument} must be a torch device such as 'cpu' or 'cuda', got {shown(value)}")
    return device


def check_dtype(function: str, argument: str, value: Any, *, optional: bool = False) -> Any:
    """The value, if it is a floating-point type of 16 bits or more; with ``optional`` it may be None."""
    if not ((optional and value is None) or (isinstance(value, torch.dtype) and value in FLOATING)):
        raise TypeError(f"{function}: {argument} must be a floating torch.dtype, got {shown(value)}")
    return value


def check_dense(function: str, argument: str, value: Any) -> torch.Tensor:
    """The tensor without its graph and subclass; raise unless it is an ordinary one that holds values."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{function}: {argument} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        kind = "nested" if value.is_nested else "quantized" if value.is_quantized else str(value.layout)
        raise ValueError(f"{function}: {argument} must be a dense tensor, got one that is {kind}")
    if value.is_meta:
        raise ValueError(f"{function}: {argument} must hold values, got a tensor on meta")
    if torch._C._functorch.is_functorch_wrapped_tensor(value) or _is_dual(value):
        raise ValueError(f"{function}: {argument} must be an ordinary tensor, got one that torch.func differentiates")
    value = value.detach()
    # Those that dispatch operators themselves have no values of their own to be taken for.
    own = type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
    return value if own or type(value) is torch.Tensor else value.as_subclass(torch.Tensor)


def _is_dual(value: torch.Tensor) -> bool:
    # A level is entered only inside dual_level(); unpacking outside of one is an error.
    ad = torch.autograd.forward_ad
    return ad._current_level >= 0 and ad.unpack_dual(value).tangent is not None


def check_tensor(function: str, argument: str, value: Any, largest: float = LARGEST) -> torch.Tensor:
    """The tensor without its graph; raise unless it is dense, floating-point and finite, none beyond ``largest``."""
    value = check_dense(function, argument, value)
    if value.dtype not in FLOATING:
        raise ValueError(
            f"{function}: {argument} must be a floating-point tensor of 16, 32 or 64 bits, got dtype {value.dtype}"
        )
    if not (value.numel() == 0 or float(value.abs().max()) <= largest):
        got = f"entries beyond {largest:g}" if torch.isfinite(value).all() else "NaN or Inf"
        raise ValueError(f"{function}: {argument} must be finite, got {got}")
    return value


def check_moved(function: str, argument: str, moved: torch.Tensor) -> None:
    """Raise unless samples that an argument moved are still of usual sizes."""
    if not float(moved.abs().max()) <= LARGEST:
        raise ValueError(f"{function}: {argument} must keep samples below {LARGEST:g}, got one that does not")


def check_overflow(function: str, argument: str, *results: torch.Tensor) -> None:
    """Raise unless results are finite; an argument made them too large."""
    if not all(bool(torch.isfinite(result).all()) for result in results):
        raise ValueError(f"{function}: {argument} must be small enough for finite results, got an overflow")


def check_sequence(function: str, argument: str, value: Any, of: str) -> list[Any]:
    """The entries of a sequence or of a NumPy array with one dimension; raise unless there is one."""
    kinds = (Sequence, np.ndarray)
    if not isinstance(value, kinds) or isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) != 1:
        raise TypeError(f"{function}: {argument} must be a non-empty sequence of {of}, got {type(value).__name__}")
    if not len(value):
        raise ValueError(f"{function}: {argument} must be a non-empty sequence of {of}, got none")
    return list(value)
