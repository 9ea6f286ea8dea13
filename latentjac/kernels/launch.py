"""The one place where a kernel is called."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .forks import thread_count


def launch(module: ModuleType, name: str, device: torch.device, call: dict[str, Any]) -> None:
    """Call a kernel of the native module: with torch's number of threads, or queued on torch's current stream.

    Args:
        module: the native module.
        name: of the kernel.
        device: of all tensors whose addresses are in the call.
        call: its fields, by their names in csrc/kernels.h.
    """
    if device.type != "cuda":
        getattr(module, name)(thread_count(), call)
        return
    # Freed when this returns, while the kernel may still run: torch's allocator hands the memory out again only to work
    # that is queued behind it on the same stream.
    workspace = None
    if name in module.workspaces:
        size = getattr(module, f"{name}_workspace")(device.index, call)
        workspace = torch.empty(size, dtype=torch.uint8, device=device) if size else None
    stream = torch.cuda.current_stream(device).cuda_stream
    getattr(module, f"cuda_{name}")(device.index, stream, address(workspace) or 0, call)


def address(x: Tensor | None) -> int | None:
    """Where a tensor lies in memory; None for none."""
    return None if x is None else x.data_ptr()
