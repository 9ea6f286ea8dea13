"""Results that show the shapes of their tensors, not the values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch


class Shaped:
    """Base of frozen dataclasses (made with ``repr=False``) whose ``repr`` has a shape for every larger tensor."""

    def __repr__(self) -> str:
        values = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{name}={_shown(value)}' for name, value in values)})"


def _shown(value: Any) -> str:
    """A tensor of several values by its shape, a sequence of such objects by its length, the rest as it is."""
    if isinstance(value, torch.Tensor):
        return f"{value.item():.4g}" if value.ndim == 0 and not value.is_meta else str(list(value.shape))
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float, str)):
        return f"{len(value)} x {type(value[0]).__name__}"
    return repr(value)
