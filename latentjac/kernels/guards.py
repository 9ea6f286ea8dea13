"""Refuses tensors on which a kernel would give silently wrong derivatives.

PyTorch does not see into a native call: inside a function that is being differentiated it would return values
without tangents, and the derivative would silently be zero. The kernels belong to linear programs, which are
run on plain tensors without recording. The reference implementations are guarded alike, so both behave the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._pytree import keystr, tree_flatten_with_path

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def refuse_tracing(function: str) -> None:
    """Refuse to be traced.

    Raises:
        RuntimeError: called while `torch.compile` or `torch.export` traces.
    """
    # As one condition: torch.compile takes a function of its own for traced even where it is only called.
    if torch.compiler.is_dynamo_compiling() or (torch.compiler.is_compiling() and _dispatches_here()):
        raise RuntimeError(
            f"{function}: cannot be traced by torch.compile or torch.export (its derivative would be lost): "
            "call it outside, or behind torch.compiler.disable"
        )


def is_traced_here() -> bool:
    """Whether this thread traces, for torch.compile or torch.export: torch's flag is one for all threads."""
    return torch.compiler.is_dynamo_compiling() or (torch.compiler.is_compiling() and _dispatches_here())


def _dispatches_here() -> bool:
    pre_dispatch = torch._C._dispatch_tls_is_dispatch_key_included(torch._C.DispatchKey.PreDispatch)
    return pre_dispatch or torch._C._len_torch_dispatch_stack() > 0


def refuse_transforms(function: str) -> None:
    """Refuse to be called inside of ``torch.func`` transforms, to whose tensors f may refer unseen.

    Raises:
        RuntimeError: a transform is active in this thread.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            f"{function}: cannot be called inside torch.func transforms (vmap, grad, jvp): its derivative would be lost"
        )


class _Pass(threading.local):
    """Whether this thread is in a pass of a program."""

    running = False


current_pass = _Pass()


@contextmanager
def program_pass() -> Iterator[None]:
    """Have kernels take their tensors as plain ones with memory of their own, as those of a program's pass are.

    The program refused others where it was entered, and its own lie in its arena: to look at each again would cost a
    tenth of a pass of few probes.
    """
    before, current_pass.running = current_pass.running, True
    try:
        yield
    finally:
        current_pass.running = before


def refuse_differentiated(function: str, **tensors: torch.Tensor | None) -> None:
    """Refuse tensors that take part in differentiation or tracing.

    Args:
        function: name of the caller, for the message.
        **tensors: arguments by name; None is passed over.

    Raises:
        TypeError: an argument is no tensor.
        RuntimeError: a tensor requires grad while grad mode is on, carries a forward-mode tangent, or is wrapped by
            `torch.func` or another tracing tensor type.
    """
    if current_pass.running:
        return
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{function}: {name} must be a tensor, got {type(tensor).__name__}")
        trouble = _trouble(tensor)
        if trouble:
            raise RuntimeError(
                f"{function}: {name} must be a plain tensor outside differentiation, got one that {trouble}; "
                "a kernel inside a differentiated function would silently give zero derivatives"
            )


def refuse_differentiated_constants(function: str, constants: Sequence[Any]) -> None:
    """Refuse constants that take part in differentiation, also inside of containers.

    Args:
        function: name of the caller, for the message.
        constants: arguments behind x; what is no tensor is passed over.

    Raises:
        RuntimeError: as for :func:`refuse_differentiated`.
        ValueError: a container holds itself, or is nested as deeply as if it did.
    """
    for i, constant in enumerate(constants):
        try:
            leaves = tree_flatten_with_path(constant)[0]
        except RecursionError:
            kind = type(constant).__name__
            raise ValueError(
                f"{function}: constants[{i}] must not be nested deeply or hold itself, got a {kind}"
            ) from None
        for path, leaf in leaves:
            trouble = _differentiated(leaf) if isinstance(leaf, torch.Tensor) else ""
            if trouble:
                raise RuntimeError(
                    f"{function}: constants[{i}]{keystr(path)} must be a plain tensor outside differentiation, "
                    f"got one that {trouble}; its derivative would silently be zero"
                )


def refuse_dual(function: str, y: Any) -> None:
    """Refuse what f returned if it carries a tangent although nothing that it was given does.

    Raises:
        RuntimeError: f refers to a dual tensor.
    """
    if isinstance(y, torch.Tensor) and _is_dual(y):
        raise RuntimeError(
            f"{function}: f must refer to plain tensors, got one whose result at a plain x has a forward-mode tangent"
        )


def _trouble(tensor: torch.Tensor) -> str:
    if type(tensor) not in _PLAIN and not torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return f"is a {type(tensor).__name__}"
    return _differentiated(tensor)


def _is_dual(tensor: torch.Tensor) -> bool:
    # A level is entered only inside dual_level(); unpacking outside of one is an error.
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def _differentiated(tensor: torch.Tensor) -> str:
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "is wrapped by torch.func (vmap, grad, jvp or functionalize)"
    if tensor.requires_grad and torch.is_grad_enabled():
        return "requires grad while grad mode is on (use torch.no_grad or detach)"
    return "carries a forward-mode tangent" if _is_dual(tensor) else ""
