"""Optional libraries: what to install where one is missing, and matplotlib's figures as pictures."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


def require_matplotlib() -> None:
    """Raise an ImportError that names the remedy if matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib, which is not installed: pip install 'latentjac[cli]'")


def require_pyarrow() -> None:
    """Raise an ImportError that names the remedy if pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError("tables need pyarrow, which is not installed: pip install 'latentjac[study]'")


def picture_of(figure: Figure) -> Image.Image:
    """A figure as a picture, drawn without pyplot, which would keep it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Image.open(buffer).convert("RGB")
