"""Results that show themselves in notebooks; what draws them is told from above."""

from __future__ import annotations

from collections.abc import Callable

_draw: list[Callable[[object], str | None]] = []


def draw_with(function: Callable[[object], str | None]) -> None:
    """Have results drawn by a function, which gives HTML, or None for what it does not know."""
    _draw[:] = [function]


class Displayed:
    """Base of results that Jupyter shows as HTML."""

    def _repr_html_(self) -> str | None:
        """HTML for the output of a notebook cell; None where there is nothing to see beyond the ``repr``."""
        return _draw[0](self) if _draw else None
