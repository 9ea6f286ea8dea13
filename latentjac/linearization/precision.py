"""In which arithmetic the passes run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from latentjac.arguments import check_choice

PRECISIONS = ("fp32", "tf32", "bf16")


class _Settings:
    """How torch multiplies on a GPU belongs to the process: who changes it keeps others from queuing work with that."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._outside: list[str] | None = None

    @contextmanager
    def all_as(self, wanted: str) -> Iterator[None]:
        """Have all of them at one value, and put them back; within that, again."""
        with self._lock:
            before = [backend.fp32_precision for backend in _backends()]
            outermost = self._outside is None
            if outermost:
                self._owner, self._outside = threading.get_ident(), before
            try:
                _set([wanted] * len(before))
                yield
            finally:
                _set(before)
                if outermost:
                    self._owner = self._outside = None

    def after_fork(self) -> None:
        """In a child: a thread that had changed them does not live on in it, so put them back and let others in."""
        if self._owner == threading.get_ident():
            return
        if self._outside is not None:
            _set(self._outside)
        self._begin()


_settings = _Settings()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settings.after_fork)


def check_precision(precision: Any, x: torch.Tensor) -> str | None:
    """The precision, if it is None, or one of ``PRECISIONS`` and x float32."""
    known: str | None = check_choice("linearize", "precision", precision, PRECISIONS, optional=True)
    if known is not None and x.dtype != torch.float32:
        raise ValueError(f"linearize: precision must be None for x of {x.dtype}, got {known!r}")
    return known


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


def _set(values: list[str]) -> None:
    for backend, value in zip(_backends(), values, strict=True):
        backend.fp32_precision = value


@contextmanager
def arithmetic(precision: str | None, device: torch.device) -> Iterator[None]:
    """Have torch multiply float32 matrices and images in this precision on a GPU, and put its settings back.

    ``"tf32"`` allows tf32, every other name forbids it; None changes nothing. What other threads launch meanwhile
    without this function gets these settings too, since torch has no others.
    """
    if precision is None or device.type != "cuda":
        yield
        return
    with _settings.all_as("tf32" if precision == "tf32" else "ieee"):
        yield
