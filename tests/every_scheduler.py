"""Every scheduler class that diffusers exports."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest

ARGUMENTS: dict[str, dict[str, Any]] = {
    "AmusedScheduler": {"mask_token_id": 1},
    "RFD4ProteinaScheduler": {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 1.0},
    "VQDiffusionScheduler": {"num_vec_classes": 4},
}
NAMES = sorted(
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler") and isinstance(getattr(diffusers, name), type)
)  # fmt: skip


def made(name: str, **options: Any) -> Any:
    """One of a class; the test is skipped where a package is missing."""
    try:
        return getattr(diffusers, name)(**ARGUMENTS.get(name, {}), **options)
    except ImportError as error:
        pytest.skip(str(error).strip().splitlines()[0])
