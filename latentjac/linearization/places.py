"""Says which line of a function's source an operator comes from."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_TORCH = os.path.dirname(os.path.abspath(torch.__file__))


def _is_users(filename: str) -> bool:
    inside = filename.startswith((_TORCH + os.sep, _OURS + os.sep))
    return not inside and not filename.startswith("<")


def line_of_error(error: BaseException) -> str:
    """``file:line`` of the innermost line that is neither torch's nor ours, among those of the calls that f made."""
    frames = traceback.extract_tb(error.__traceback__)
    # What comes before ours is who called us.
    ours = next((i for i, frame in enumerate(frames) if frame.filename.startswith(_OURS + os.sep)), 0)
    users = [f"{frame.filename}:{frame.lineno}" for frame in frames[ours:] if _is_users(frame.filename)]
    return users[-1] if users else ""


def line_here() -> str:
    """``file:line`` of the innermost calling line that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


class _Search:
    """Notes the line of the first call of an operator."""

    def __init__(self, name: str) -> None:
        self._name, self.line = name.strip("_"), ""

    def see(self, func: Any) -> None:
        packet = getattr(func, "overloadpacket", func)
        name = getattr(packet, "__name__", "")
        if not self.line and name.strip("_") == self._name:
            self.line = line_here()


class _Functions(TorchFunctionMode):
    def __init__(self, search: _Search) -> None:
        super().__init__()
        self._search = search

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._search.see(func)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, search: _Search) -> None:
        super().__init__()
        self._search = search

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self._search.see(func)
        return func(*args, **(kwargs or {}))


def line_of_operator(target: str, f: Callable[..., Any], *args: Any) -> str:
    """``file:line`` where f first calls an operator such as ``aten.round.default``; evaluates f once more.

    Returns:
        Nothing if it is not found.
    """
    search = _Search(target.split(".")[1] if "." in target else target)
    try:
        with torch.no_grad(), _Functions(search), _Operators(search):
            f(*(value.clone() if isinstance(value, torch.Tensor) else value for value in args))
    except Exception:  # what went wrong before is reported already, and this only looks for its place
        pass
    return search.line


def at(line: str) -> str:
    """``" (file:line)"``, or nothing where the line is not known."""
    return f" ({line})" if line else ""
