"""Checks of the tensors given to a kernel: an error names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""Numbers of the types in csrc/kernels.h."""


def check_type(name: str, label: str, x: Tensor) -> None:
    """Refuse types that no kernel has."""
    if x.dtype not in DTYPES:
        raise TypeError(f"{name}: {label} must be float32, float64, bfloat16 or float16, got {x.dtype}")


def check_shape(name: str, label: str, x: Tensor, expected: str, dims: int | None = None) -> None:
    """Refuse what is no dense tensor of as many dimensions; at least one where none are told.

    Args:
        name: the function, for messages.
        label: its argument.
        x: what it got.
        expected: its shape, for messages.
        dims: how many.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {label} must be a tensor, got {type(x).__name__}")
    if x.is_nested or x.layout != torch.strided:
        raise ValueError(f"{name}: {label} must be dense, got {'a nested tensor' if x.is_nested else x.layout}")
    if x.dim() != dims if dims is not None else x.dim() == 0:
        raise ValueError(f"{name}: {label} must have shape {expected}, got {list(x.shape)}")


def check_like(
    name: str, label: str, x: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse another shape, type, device or layout."""
    check_shape(name, label, x, str(list(shape)), len(shape))
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name}: {label} must have shape {list(shape)}, got {list(x.shape)}")
    if x.dtype != dtype:
        raise TypeError(f"{name}: {label} must be {dtype}, got {x.dtype}")
    if x.device != device:
        raise TypeError(f"{name}: {label} must be on {device}, got {x.device}")


def buffer(
    name: str, label: str, out: Tensor | None, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The given contiguous tensor, checked, or a new one."""
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    check_like(name, label, out, shape, dtype, device)
    if not out.is_contiguous():
        raise ValueError(f"{name}: {label} must be contiguous, got strides {out.stride()}")
    return out


def refuse_overlap(name: str, given: Mapping[str, Tensor | None], results: Mapping[str, Tensor | None]) -> None:
    """A kernel reads after it began to write, so no result may lie in the memory of an input."""
    for label, result in results.items():
        for key, tensor in given.items():
            if result is None or tensor is None or not result.numel():
                continue
            if result.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
                raise ValueError(f"{name}: {label} must share no memory with {key}")
