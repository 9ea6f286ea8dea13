"""Checks of the tensors given to a kernel: an error names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .guards import current_pass

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
"""Numbers of the types in csrc/kernels.h."""


def check_type(name: str, label: str, x: Tensor) -> None:
    """Refuse types that no kernel has, and tensors whose address does not lead to their values."""
    if x.dtype not in DTYPES:
        raise TypeError(f"{name}: {label} must be float32, float64, bfloat16 or float16, got {x.dtype}")
    _check_memory(name, label, x)


def check_shape(name: str, label: str, x: Tensor, expected: str, dims: int | None = None) -> None:
    """Refuse what is no dense tensor of as many dimensions; at least one where none are told.

    Args:
        name: the function, for messages.
        label: its argument.
        x: what it got.
        expected: its shape, for messages.
        dims: how many.
    """
    _check_dense(name, label, x)
    if x.dim() != dims if dims is not None else x.dim() == 0:
        raise ValueError(f"{name}: {label} must have shape {expected}, got {list(x.shape)}")


def check_like(
    name: str, label: str, x: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse another shape, type, device or layout, and tensors whose address does not lead to their values."""
    _check_dense(name, label, x)
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name}: {label} must have shape {list(shape)}, got {list(x.shape)}")
    if x.dtype != dtype:
        raise TypeError(f"{name}: {label} must be {dtype}, got {x.dtype}")
    if x.device != device:
        raise TypeError(f"{name}: {label} must be on {device}, got {x.device}")
    _check_memory(name, label, x)


def _check_dense(name: str, label: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {label} must be a tensor, got {type(x).__name__}")
    if x.layout != torch.strided or x.is_nested:
        kind = "a nested tensor" if x.is_nested else f"layout {x.layout}"
        raise TypeError(f"{name}: {label} must be a dense tensor, got {kind}")


def _check_memory(name: str, label: str, x: Tensor) -> None:
    if current_pass.running or x.is_meta or not x.numel():
        return
    held = x.untyped_storage().nbytes()
    if not x.data_ptr() or held < x.storage_offset() * x.itemsize + _reach(x):
        raise ValueError(f"{name}: {label} must have memory for all its entries, got a storage of {held} bytes")


def readable(x: Tensor) -> Tensor:
    """The same, or a copy where its memory does not hold its values (a negated view) or holds them at odd addresses."""
    if x.is_neg():
        x = x.resolve_neg()
    return x if x.data_ptr() % x.itemsize == 0 else x.clone()


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


def check_result(name: str, label: str, x: Tensor) -> None:
    """Refuse results whose memory does not hold values, or of which two entries share memory."""
    if x.is_neg():
        raise ValueError(f"{name}: {label} must hold its own values, got a negated view")
    if x.data_ptr() % x.itemsize:
        raise ValueError(f"{name}: {label} must lie at a multiple of {x.itemsize} bytes, got {x.data_ptr():#x}")
    if not x.is_contiguous() and not _nested(zip(x.shape, x.stride(), strict=True)):
        raise ValueError(f"{name}: {label} must have memory of its own for each entry, got strides {x.stride()}")


def refuse_overlap(name: str, given: Mapping[str, Tensor | None], results: Mapping[str, Tensor | None]) -> None:
    """A kernel reads after it began to write, and from several threads: no result may lie in the memory of another."""
    if current_pass.running or all(result is None for result in results.values()):
        return
    others = [(key, x, *_span(x)) for key, x in given.items() if x is not None and x.numel()]
    for label, result in results.items():
        if result is None or not result.numel():
            continue
        check_result(name, label, result)
        start, end = _span(result)
        for key, other, first, last in others:
            if start < last and first < end and not _interleaved(result, other):
                raise ValueError(f"{name}: {label} must share no memory with {key}")
        others.append((label, result, start, end))


def _reach(x: Tensor) -> int:
    """Bytes from the first entry to the end of the last."""
    if x.is_contiguous():
        return x.numel() * x.itemsize
    return x.itemsize * (1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)))


def _span(x: Tensor) -> tuple[int, int]:
    start = x.data_ptr()
    return start, start + _reach(x)


def _interleaved(a: Tensor, b: Tensor) -> bool:
    """Whether two arrays lie between each other's rows and share no entry. With other strides they may: not seen."""
    distance = abs(b.data_ptr() - a.data_ptr())
    if a.stride() != b.stride() or distance % a.itemsize:
        return False
    sizes = [max(pair) for pair in zip(a.shape, b.shape, strict=True)]
    return _nested([(2, distance // a.itemsize), *zip(sizes, a.stride(), strict=True)])


def _nested(dims: Iterable[tuple[int, int]]) -> bool:
    """Whether each stride passes over all that lies within it: no two entries share memory."""
    reach = 1
    for stride, size in sorted((stride, size) for size, stride in dims if size > 1):
        if stride < reach:
            return False
        reach += stride * (size - 1)
    return True
