"""Says where in a network the first NaN or Inf appears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from latentjac.linearization.interface import describe_non_finite


class NonFiniteError(ValueError):
    """A network returned NaN or Inf at a finite input; the message names the operation that made the first.

    Example:
        >>> try:
        ...     latentjac.linearize(lambda x: x.log(), -torch.ones(1, 2))
        ... except latentjac.NonFiniteError:
        ...     print("not a number")
        not a number
    """


class _FirstNonFinite(TorchFunctionMode):
    """Records the first torch function whose output has NaN or Inf."""

    def __init__(self) -> None:
        super().__init__()
        self.place: str | None = None

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.place is None and isinstance(out, torch.Tensor) and out.is_floating_point():
            with torch._C.DisableTorchFunction():
                if not torch.isfinite(out).all():
                    name = resolve_name(func) or getattr(func, "__name__", "an operation")
                    self.place = f"{name} with output {list(out.shape)}"
        return out


def raise_if_non_finite(name: str, y: torch.Tensor, f: Callable[..., torch.Tensor], *args: Any) -> None:
    """Raise a :class:`NonFiniteError` if y = f(*args) is not finite, running f once more to find the place."""
    if torch.isfinite(y).all():
        return
    recorder, stack = _FirstNonFinite(), _ModuleStack()
    with torch.no_grad(), stack, recorder:
        f(*args)
    place = recorder.place or "an unknown operation"
    inside = f" in {stack.first}" if stack.first else ""
    raise NonFiniteError(
        f"{name}: f must be finite at x, got {describe_non_finite(y)} in its output; first made by {place}{inside}"
    )


class _ModuleStack:
    """Finds the first leaf module with a non-finite output, by type and settings."""

    first: str | None = None

    def __enter__(self) -> None:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            leaf = not any(module.children())
            if self.first is None and leaf and isinstance(output, torch.Tensor) and output.is_floating_point():
                if not torch.isfinite(output).all():
                    self.first = str(module)

        self._handle = torch.nn.modules.module.register_module_forward_hook(hook)

    def __exit__(self, *error: object) -> None:
        self._handle.remove()
