"""The page of a run: how far it is, what went wrong, and some items with sliders through their pictures."""

from __future__ import annotations

import statistics
from typing import Any

from latentjac.batch.folder import MANIFEST, PAGE, SAMPLES
from latentjac.batch.parts import encoded
from latentjac.batch.results import Results
from latentjac.batch.samples import Photo, Still, samples_of
from latentjac.files import write_bytes
from latentjac.report import run_page
from latentjac.report.samples import sample_sliders

_MEDIANS = ("psnr", "energy", "participation", "stable", "entropy", "numerical")


def write_page(results: Results, photo: Photo) -> None:
    """Write ``index.html``.

    Args:
        results: What it is about.
        photo: Gives the photo of an item, to compare with.
    """
    table = results.table(_MEDIANS)
    status, samples = results.status(), samples_of(results, photo)
    record: dict[str, Any] = {
        "command": "run",
        "command_line": "latentjac run SPEC.yaml",
        "model": {"name": results.manifest.get("name"), **results.manifest.get("model", {})},
        "summary": {
            "items": status.items,
            "done": status.done,
            "with errors": status.with_errors,
            "not converged": status.not_converged,
            "led back to another picture": status.lost,
            "seconds of computing": status.seconds,
        },
        "medians": _medians(table),
        "errors": {message: count for message, count in status.errors},
        "settings": {name: str(value) for name, value in results.manifest.get("settings", {}).items()},
        "versions": results.manifest.get("versions", {}),
    }
    files = [*_shown(results, samples.stills), (MANIFEST, "settings, model and versions of the run")]
    page = run_page(record, files, sample_sliders(samples.live))
    write_bytes(results.path / PAGE, page.encode(errors="backslashreplace"))


def _shown(results: Results, stills: list[Still]) -> list[tuple[str, str]]:
    """Pictures with what they are of; those in tar files are copied beside the page."""
    if not stills or results.manifest.get("settings", {}).get("pictures") != "tar":
        return [(still.file, still.what) for still in stills]
    (results.path / SAMPLES).mkdir(exist_ok=True)
    found = []
    for number, still in enumerate(stills):
        found.append((f"{SAMPLES}/{number:02d}.png", still.what))
        write_bytes(results.path / found[-1][0], encoded(still.image))
    return found


def _medians(table: Any) -> dict[str, float]:
    """Medians over items of the numbers that steps give one of."""
    values = {name: [v for v in table.column(name).to_pylist() if v is not None] for name in _MEDIANS}
    return {name: statistics.median(found) for name, found in values.items() if found}
