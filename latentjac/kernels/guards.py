"""Refuses tensors on which a kernel would give silently wrong derivatives.

PyTorch does not see into a native call: inside a function that is being differentiated it would return values
without tangents, and the derivative would be zero without a word. The kernels belong to linear programs, which are
run on plain tensors without recording. The PyTorch twins are guarded alike, so both behave the same.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def refuse_tracing(function: str) -> None:
    """Refuse to be traced.

    Raises:
        RuntimeError: called while `torch.compile` or `torch.export` traces.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            f"{function}: cannot be traced by torch.compile or torch.export (its derivative would be lost): "
            "call it outside, or behind torch.compiler.disable"
        )


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


def _trouble(tensor: torch.Tensor) -> str:
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "is wrapped by torch.func (vmap, grad, jvp or functionalize)"
    if type(tensor) not in _PLAIN:
        return f"is a {type(tensor).__name__}"
    if tensor.requires_grad and torch.is_grad_enabled():
        return "requires grad while grad mode is on (use torch.no_grad or detach)"
    # A level is entered only inside dual_level(); unpacking outside of one is an error.
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None:
        return "carries a forward-mode tangent"
    return ""
