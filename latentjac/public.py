"""What surrounds every call of a public function: modes of torch, the name in errors, the user's line in warnings."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES = ("cpu", "cuda")
# Files of ours and of torch, whose decorators stand between functions of ours.
_INSIDE = tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, torch.__file__))
# Functions whose errors are given the name of the public one that was called; those of `public` add theirs.
_names = {
    "linearize",
    "rebase",
    "jvp",
    "vjp",
    "encode",
    "decode",
    "resolve_layer",
    "Schedule",
    "Point",
    "denoiser",
    "same",
    "Conditioning",
    "Guidance",
    "Model",
}


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one that users call, by its name; see :func:`public_as`."""
    return public_as(function.__name__)(function)


def public_as(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function one that users call.

    It runs outside ``torch.autocast`` and ``torch.inference_mode``: models run in the type of their weights, whatever
    surrounds the call. ``torch.compile`` of what calls it leaves it as it is. An error of a function inside,
    ``inner: k must be``, gets the name of the one that was called.

    Args:
        name: What users know it by.
    """
    _names.add(name)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @beside_compilers
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                with ordinary_modes():
                    return function(*args, **kwargs)
            except (TypeError, ValueError) as error:
                _rename(error, name)
                raise

        return called

    return decorate


def beside_compilers(function: Callable[P, R]) -> Callable[P, R]:
    """Have ``torch.compile`` step out of its graph for a function: it would trace the whole library, for minutes."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling():
            alone: Callable[P, R] = torch.compiler.disable(function)
            return alone(*args, **kwargs)
        return function(*args, **kwargs)

    return called


def made_on_cpu(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function make its tensors on the CPU where it does not say otherwise, whatever torch's default is."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return called


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """Leave autocast and inference mode, where one of them is on."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def warn(message: str) -> None:
    """Warn of what happened in a call, at the line outside of the package that made it.

    ``warnings.warn`` has ``skip_file_prefixes`` for this since Python 3.12.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _rename(error: Exception, name: str) -> None:
    message = str(error)
    inner, colon, rest = message.partition(": ")
    if colon and inner in _names and inner != name:
        error.args = (f"{name}: {rest}", *error.args[1:])
