"""The page of a run: how far it is, what went wrong, and some of its pictures."""

from __future__ import annotations

import statistics
from typing import Any

from latentjac.batch.folder import MANIFEST, PAGE, PICTURES
from latentjac.batch.results import Results
from latentjac.files import write_bytes
from latentjac.report import run_page

_MOST_PICTURES = 24
_MEDIANS = ("psnr", "energy", "participation", "stable", "entropy", "numerical")


def write_page(results: Results) -> None:
    """Write ``index.html``."""
    table = results.table()
    status = results.status()
    drawn = table.filter(_has_pictures(table)).slice(0, _MOST_PICTURES).select(["id", "step", "part", "pictures"])
    shown = [
        (f"{PICTURES}/{row['part']}/{name}", f"{row['id']}, {row['step']}")
        for row in drawn.to_pylist()
        for name in row["pictures"]
    ]
    record: dict[str, Any] = {
        "command": "run",
        "command_line": "latentjac run SPEC.yaml",
        "model": {"name": results.manifest.get("name"), **results.manifest.get("model", {})},
        "summary": {
            "items": status.items,
            "done": status.done,
            "with errors": status.with_errors,
            "not converged": status.not_converged,
            "seconds of computing": status.seconds,
        },
        "medians": _medians(table),
        "errors": {message: count for message, count in status.errors},
        "settings": {name: str(value) for name, value in results.manifest.get("settings", {}).items()},
        "versions": results.manifest.get("versions", {}),
    }
    files = [*shown[:_MOST_PICTURES], (MANIFEST, "settings, model and versions of the run")]
    write_bytes(results.path / PAGE, run_page(record, files).encode(errors="backslashreplace"))


def _has_pictures(table: Any) -> Any:
    import pyarrow.compute as compute

    return compute.is_valid(table.column("pictures"))


def _medians(table: Any) -> dict[str, float]:
    """Medians over items of the numbers that steps give one of."""
    values = {name: [v for v in table.column(name).to_pylist() if v is not None] for name in _MEDIANS}
    return {name: statistics.median(found) for name, found in values.items() if found}
