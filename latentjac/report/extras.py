"""Says what to install when an optional library is missing."""

from __future__ import annotations

import importlib.util


def require_matplotlib() -> None:
    """Raise an ImportError that names the remedy if matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib, which is not installed: pip install 'latentjac[cli]'")


def require_pyarrow() -> None:
    """Raise an ImportError that names the remedy if pyarrow is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ImportError("tables need pyarrow, which is not installed: pip install 'latentjac[study]'")
