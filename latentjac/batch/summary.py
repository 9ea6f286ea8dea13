"""The page of a run: how far it is, what went wrong, and some of its pictures."""

from __future__ import annotations

import statistics
from typing import Any

from latentjac.batch.folder import MANIFEST, PAGE, PICTURES, SAMPLES
from latentjac.batch.parts import encoded
from latentjac.batch.results import Results
from latentjac.files import write_bytes
from latentjac.report import run_page

_MOST_PICTURES = 24
_MEDIANS = ("psnr", "energy", "participation", "stable", "entropy", "numerical")


def write_page(results: Results) -> None:
    """Write ``index.html``."""
    table = results.table(("id", "step", "part", "pictures", *_MEDIANS))
    status = results.status()
    shown = _shown(results, table)
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
    files = [*shown, (MANIFEST, "settings, model and versions of the run")]
    write_bytes(results.path / PAGE, run_page(record, files).encode(errors="backslashreplace"))


def _shown(results: Results, table: Any) -> list[tuple[str, str]]:
    """Some pictures, with what they are of; those in tar files are copied beside the page."""
    drawn = table.filter(_has_pictures(table)).slice(0, _MOST_PICTURES).select(["id", "step", "part", "pictures"])
    names = [
        (row["id"], f"{PICTURES}/{row['part']}/{name}", f"{row['id']}, {row['step']}")
        for row in drawn.to_pylist()
        for name in row["pictures"]
    ][:_MOST_PICTURES]
    if results.manifest.get("settings", {}).get("pictures") != "tar":
        return [(file, what) for _, file, what in names]
    (results.path / SAMPLES).mkdir(exist_ok=True)
    images = (image for id in dict.fromkeys(id for id, _, _ in names) for image in results.images(id))
    found = []
    for number, ((_, _, what), image) in enumerate(zip(names, images, strict=False)):
        found.append((f"{SAMPLES}/{number:02d}.png", what))
        write_bytes(results.path / found[-1][0], encoded(image))
    return found


def _has_pictures(table: Any) -> Any:
    import pyarrow.compute as compute

    return compute.is_valid(table.column("pictures"))


def _medians(table: Any) -> dict[str, float]:
    """Medians over items of the numbers that steps give one of."""
    values = {name: [v for v in table.column(name).to_pylist() if v is not None] for name in _MEDIANS}
    return {name: statistics.median(found) for name, found in values.items() if found}
