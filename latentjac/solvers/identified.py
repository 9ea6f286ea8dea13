"""Which network a saved result was made with, and whether this is it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Identified(Protocol):
    """What can say which network it is; a :class:`latentjac.Model` can."""

    def identity(self) -> str:
        """Short hash of architecture and weights."""
        ...


def other_model(metadata: Mapping[str, Any], model: Identified) -> str | None:
    """Name and identity of the network that a result with such metadata was made with; None where it is this one."""
    identity = metadata.get("model_identity")
    return None if identity == model.identity() else f"{metadata.get('model')!r} (identity {identity})"
