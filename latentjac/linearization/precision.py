"""In which arithmetic the passes run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PRECISIONS = ("fp32", "tf32", "bf16")

# The settings belong to the process: who changes them keeps others from queuing work with them.
_lock = threading.RLock()


def check_precision(precision: object, x: torch.Tensor) -> None:
    """Raise unless it is None, or one of ``PRECISIONS`` and x float32."""
    if precision is None:
        return
    if precision not in PRECISIONS:
        raise ValueError(f"linearize: precision must be None or one of {list(PRECISIONS)}, got {precision!r}")
    if isinstance(x, torch.Tensor) and x.dtype != torch.float32:
        raise ValueError(f"linearize: precision must be None for x of {x.dtype}, got {precision!r}")


def lowered(precision: str | None) -> torch.dtype | None:
    """The type that passes hold float32 values in, where that is another."""
    return torch.bfloat16 if precision == "bf16" else None


def spacing(precision: str | None, dtype: torch.dtype, device: torch.device) -> float:
    """Relative rounding error of products at points of this type, as a multiple of which one can hope for residuals.

    With precision None that of torch's products as they are set now: by default its convolutions are in tf32 on a GPU.
    """
    as_set = precision is None and any(backend.fp32_precision == "tf32" for backend in _backends())
    if (precision == "tf32" or as_set) and dtype == torch.float32 and device.type == "cuda":
        return 2.0**-10
    return torch.finfo(lowered(precision) or dtype).eps


def computed_in(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Type that norms and attention take tangents in: on a processor their kernels know no short ones."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype


def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN takes weights of this type in its own layout, on the processor."""
    short = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(torch.backends.mkldnn.enabled) and (dtype == torch.float32 or short)


def allows_tf32(device: torch.device) -> bool:
    """Whether torch, as it is set now, may multiply float32 matrices on this device in tf32.

    Within :func:`arithmetic` that is what it has set, and with precision None the setting of the process. The kernels
    of attention follow it at every base point.
    """
    return device.type == "cuda" and bool(_backends()[0].fp32_precision == "tf32")


def _backends() -> tuple[Any, Any]:
    """Where torch keeps how it multiplies float32 matrices and images on a GPU."""
    return torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]


@contextmanager
def arithmetic(precision: str | None, device: torch.device) -> Iterator[None]:
    """Have torch multiply float32 matrices and images in this precision on a GPU, and put its settings back.

    ``"tf32"`` allows tf32, every other name forbids it; None changes nothing. What other threads launch meanwhile
    without this function gets these settings too, since torch has no others.
    """
    if precision is None or device.type != "cuda":
        yield
        return
    wanted = "tf32" if precision == "tf32" else "ieee"
    with _lock:
        backends = _backends()
        before = [backend.fp32_precision for backend in backends]
        try:
            for backend in backends:
                backend.fp32_precision = wanted
            yield
        finally:
            for backend, value in zip(backends, before, strict=True):
                backend.fp32_precision = value
