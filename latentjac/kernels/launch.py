"""The one place where a kernel is called."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from .forks import thread_count


def launch(module: ModuleType, name: str, device: torch.device, *arguments: Any) -> None:
    """Call a kernel of the native module: with torch's number of threads, or queued on torch's current stream.

    Args:
        module: the native module.
        name: of the function; the one for CUDA is `cuda_` and this.
        device: of all tensors whose addresses are among the arguments.
        arguments: as the function in csrc/module.cpp has them after threads, or after device and stream.
    """
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device).cuda_stream
        getattr(module, f"cuda_{name}")(device.index, stream, *arguments)
    else:
        getattr(module, name)(thread_count(), *arguments)
