"""Checks of arguments that several layers take."""

from __future__ import annotations

import torch


def check_generator(function: str, generator: object) -> None:
    """Raise unless it is a generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"{function}: generator must be a torch.Generator or None, got {type(generator).__name__}")
