"""What has to be settled before Gradio is imported: it reads these variables then."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def settle(folder: Path) -> None:
    """Have Gradio report nothing to anybody and keep files of visitors in a folder.

    Args:
        folder: Where files that are opened and made lie; the caller removes it.

    Raises:
        ImportError: If Gradio is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("explore needs gradio, which is not installed: pip install 'latentjac[explore]'")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
