"""Leaves what the caller is inside of: inference mode and autocast change neither f nor its passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

Tensor = torch.Tensor


def is_plain(device: torch.device) -> bool:
    """Whether there is nothing to leave."""
    return not (
        torch.is_inference_mode_enabled()
        or torch.is_autocast_enabled("cpu")
        or (device.type != "cpu" and torch.is_autocast_enabled(device.type))
    )


@contextmanager
def outside(device: torch.device) -> Iterator[None]:
    """Leave inference mode, in which nothing can be differentiated, and autocast, whose types are not those of f."""
    if is_plain(device):
        yield
        return
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            grad = torch.is_grad_enabled()
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.set_grad_enabled(grad))
        for kind in dict.fromkeys(("cpu", device.type)):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def ordinary(value: Tensor) -> Tensor:
    """The value as a tensor that was not made in inference mode: autograd refuses those."""
    return value.clone() if value.is_inference() else value
