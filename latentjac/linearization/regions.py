"""Makes f a function of values, whatever it does about gradients, so that both modes have the derivative of those.

Autograd has devices that change gradients but not values, and most of them act on reverse mode alone. While f is traced
or differentiated

- ``no_grad``, ``inference_mode`` and ``set_grad_enabled(False)`` have no effect, and f is told that grad mode is off,
- hooks on gradients are not called, and checkpoints only call their function,
- regions with autocast as it is already are no regions: export would trace what it has traced once more for them,
- ``.data`` is ``.detach()``: nothing flows through either,
- a custom ``autograd.Function`` has the derivative that its author declared: on a tape by itself, in a trace because it
  is recorded as one call (``declared.py``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.utils.checkpoint
import torch.utils.hooks
from torch.autograd.function import _SingleLevelFunction
from torch.overrides import TorchFunctionMode

from latentjac.linearization.locks import exclusion

# Calls a custom function: (its own apply, arguments) -> result.
Apply = Callable[[Callable[..., Any], tuple[Any, ...]], Any]

# Attributes of torch as they were before :func:`of_values` replaced them; None where there was none.
_replaced: list[tuple[Any, str, Any]] = []


def _put_back(count: int = 0) -> None:
    """Undo all replacements but the first ``count``."""
    while len(_replaced) > count:
        owner, name, value = _replaced.pop()
        if value is None:
            delattr(owner, name)
        else:
            setattr(owner, name, value)


# What is replaced belongs to the process, and tracing gives the modules of f other parameters for a while.
exclusion.after_fork(_put_back)


class _Values(TorchFunctionMode):
    """Ignores what switches gradients off or changes them on their way."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch._C._set_grad_enabled and not args[0]:
            return None
        if func is torch.Tensor.register_hook:
            return torch.utils.hooks.RemovableHandle(OrderedDict())
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        return func(*args, **(kwargs or {}))


@contextmanager
def of_values(apply: Apply | None = None) -> Iterator[None]:
    """While this is entered, functions that this thread calls are functions of values; see above.

    Args:
        apply: Calls custom functions, instead of torch.
    """
    with exclusion.alone():
        before, grad = len(_replaced), torch.is_grad_enabled()
        try:
            _replace(apply, threading.get_ident())
            with _Values():
                yield
        finally:
            _put_back(before)
            # Only where f changed it: a trace holds every call of this.
            if torch.is_grad_enabled() != grad:
                torch._C._set_grad_enabled(grad)


def _replace(apply: Apply | None, thread: int) -> None:
    """Replace what a mode cannot see, for this thread: others go on with the original."""

    def put(owner: Any, name: str, mine: Callable[..., Any], original: Callable[..., Any], as_class: bool) -> None:
        def either(*args: Any, **kwargs: Any) -> Any:
            return (mine if threading.get_ident() == thread else original)(*args, **kwargs)

        _replaced.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, classmethod(either) if as_class else either)

    for owner, name, mine in (
        (torch, "is_grad_enabled", lambda: False),
        (torch._C, "_InferenceMode", lambda mode: nullcontext()),
        (torch.utils.checkpoint, "_checkpoint_without_reentrant_generator", _checkpoint),
        (torch.utils.hooks.BackwardHook, "setup_input_hook", lambda hook, args: args),
        (torch.utils.hooks.BackwardHook, "setup_output_hook", lambda hook, args: args),
        *_autocast_that_changes(torch.autocast.__enter__, torch.autocast.__exit__),
    ):
        put(owner, name, mine, getattr(owner, name), False)
    checkpoint = torch.utils.checkpoint.CheckpointFunction
    put(checkpoint, "apply", lambda _, called, keep, *args: called(*args), _apply(checkpoint.apply), True)
    if apply is not None:
        # Below ``Function.apply``, to which f may hold bound references.
        put(_SingleLevelFunction, "apply", _recorded(apply), _own_apply, True)


def _checkpoint(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


def _autocast_that_changes(enter: Any, leave: Any) -> list[tuple[Any, str, Any]]:
    """Methods of autocast that do nothing where what is asked for is so already."""
    left_out: list[torch.autocast] = []

    def first(region: torch.autocast) -> Any:
        device, enabled = region.device, region._enabled
        same = region.fast_dtype == torch.get_autocast_dtype(device) or not enabled
        if enabled != torch.is_autocast_enabled(device) or not same:
            return enter(region)
        left_out.append(region)
        return region

    def last(region: torch.autocast, *error: Any) -> Any:
        for i in reversed(range(len(left_out))):
            if left_out[i] is region:
                del left_out[i]
                return False
        return leave(region, *error)

    return [(torch.autocast, "__enter__", first), (torch.autocast, "__exit__", last)]


def _apply(bound: Any) -> Callable[..., Any]:
    return lambda _, *args: bound(*args)


def _own_apply(function: Any, *args: Any) -> Any:
    """What torch does for any function on tensors outside of transforms."""
    return super(_SingleLevelFunction, function).apply(*args)


def _recorded(apply: Apply) -> Callable[..., Any]:
    def run(function: Any, *args: Any) -> Any:
        if function.__module__.startswith("torch."):
            return _own_apply(function, *args)

        def own(*args: Any) -> Any:
            return _own_apply(function, *args)

        own.__name__ = function.__name__
        return apply(own, args)

    return run
