"""The page of a run: one HTML file beside the files it shows, for any browser, without a network."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentjac.arguments import check_kind, check_text, shown
from latentjac.strict_json import readable

_PICTURES = (".png", ".gif", ".jpg", ".jpeg")
_NUMERIC = re.compile(r"[-+]?\d[\d.]*(e[-+]\d+)?( s)?")  # cells that are not broken over lines
_FIRST = "sheet.png"  # the picture to look at before all others
# What has its own place on the page; everything else of a record is listed as it is.
_PLACED = {
    "command", "command_line", "arguments", "versions", "seconds", "files", "photo", "model", "basis", "edit",
    "summary",
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        title: Heading.
        rows: Rows of cells; the first cell names the row.
        head: Names of the columns, or nothing.
        note: A sentence above the table.
    """

    title: str
    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    note: str = ""


def run_page(record: Mapping[str, Any], files: Iterable[tuple[str, str]], sliders: str = "") -> str:
    """HTML page of a run.

    Args:
        record: What ``run.json`` holds. Every key may be missing; keys that this page does not know become tables of
            their own.
        files: Names relative to the page, each with what it is, in the order they were made. Pictures are shown.
        sliders: What :func:`latentjac.report.scrubber` gave; it stands above all pictures, as it is.

    Returns:
        A whole document, everything in it escaped; what cannot be written as UTF-8 stands there with backslashes. There
        is a script in it only for sliders.

    Raises:
        TypeError: If record is no mapping, files are no pairs of texts, or sliders are no text.
    """
    check_kind("run_page", "record", record, Mapping, "a mapping")
    sliders = check_text("run_page", "sliders", sliders)
    check_kind("run_page", "files", files, (Sequence, Iterator, ItemsView), "pairs of a name and what it is")
    listed = list(files)
    for entry in listed:
        if not isinstance(entry, tuple) or len(entry) != 2 or not all(isinstance(text, str) for text in entry):
            raise TypeError(f"run_page: files must be pairs of a name and what it is, got {shown(entry)}")
    pictures = [entry for entry in listed if Path(entry[0]).suffix.lower() in _PICTURES]
    pictures.sort(key=lambda entry: entry[0] != _FIRST)
    photo, model, finding = (record.get(name, {}) for name in ("photo", "model", "finding"))
    parts = [photo.get("file"), f"model {model['name']}" if "name" in model else None]
    html = _environment().get_template("page.html").render(
        title=f"latentjac {record.get('command', '')}".strip(),
        subtitle=", ".join(part for part in parts if part),
        notes=[*(finding[name] for name in ("question", "sentence") if name in finding), *photo.get("notes", [])],
        numbers=_numbers(record),
        sliders=Markup(sliders),
        pictures=pictures,
        sections=[section for section in (_basis(record), _walks(record), *_others(record)) if section],
        command_line=record.get("command_line", ""),
        seconds=[(stage, f"{value:.2f} s") for stage, value in record.get("seconds", {}).items()],
        versions=list(record.get("versions", {}).items()),
        files=listed,
    )  # fmt: skip
    # File names need not be UTF-8, pages must.
    return readable(html)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["numeric"] = _NUMERIC.fullmatch
    environment.filters["link"] = lambda name: quote(name, errors="surrogateescape")
    return environment


def _numbers(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers to know first."""
    found = []
    if "psnr_db" in record:
        found.append(("reconstruction", f"{record['psnr_db']:.1f} dB PSNR"))
    if basis := record.get("basis"):
        found.append(("largest singular value", _number(basis["singular_values"][0])))
        found.append(("largest residual", _number(max(basis["residuals"]))))
        if "status" in basis:
            found.append(("solver", basis["status"]))
    if edit := record.get("edit"):
        found.append(("linear up to", f"{_number(min(edit['linear_up_to']))} {_deviations(edit)}"))
        if "leakage" in edit:
            found.append(("largest leakage", _number(max(map(max, edit["leakage"])))))
    found += [(name, _text(value)) for name, value in record.get("summary", {}).items()]
    if "total" in record.get("seconds", {}):
        found.append(("time", f"{record['seconds']['total']:.1f} s"))
    return found


def _basis(record: Mapping[str, Any]) -> Section | None:
    if not (basis := record.get("basis")):
        return None
    triplets = zip(basis["singular_values"], basis["residuals"], strict=True)
    rows = [(str(i), _number(s), _number(residual)) for i, (s, residual) in enumerate(triplets, 1)]
    facts = [f"{name.replace('_', ' ')} {_text(basis[name])}" for name in ("layer", "timestep") if name in basis]
    if {"status", "jvps", "vjps"} <= basis.keys():
        facts.append(f"{basis['status']} after {basis['jvps']} products with J and {basis['vjps']} with its transpose")
    return Section("Local basis", rows, ("direction", "singular value", "residual |Jᵀu − sv| / s"), "; ".join(facts))


def _walks(record: Mapping[str, Any]) -> Section | None:
    """One row a walk; columns that the method does not have are left out."""
    if not (edit := record.get("edit")):
        return None
    columns: dict[str, list[list[float]]] = {
        "path": edit["path"],
        "feature path": edit["feature_path"],
        "least cosine": _least(edit["cosine"]),
    }
    names, distances, radii = ([_text(v) for v in edit[n]] for n in ("directions", "distances", "linear_up_to"))
    if len(edit["path"]) < len(names):  # composed: one walk along all directions
        names, distances, radii = ([", ".join(cells)] for cells in (names, distances, radii))
    else:
        columns |= {f"least {name}": _least(edit[name]) for name in ("retained", "overlaps") if name in edit}
    if "leakage" in edit:
        columns["leakage"] = edit["leakage"]
    rows = [
        (name, distance, radii[i], *(_number(values[i][j]) for values in columns.values()))
        for i, name in enumerate(names)
        for j, distance in enumerate(distances)
    ]
    note = (
        f"method {edit['method']}, {edit['num_steps']} steps a walk; distances in {edit['unit']}, ranges of linearity "
        f"and paths in {_deviations(edit)}; the feature path is the way of the features in their own unit"
    )
    return Section("Walks", rows, ("direction", "distance", "linear up to", *columns), note)


def _least(values: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """The least of each walk, of ``[steps][directions][distances]``."""
    return [[min(steps) for steps in zip(*rows, strict=True)] for rows in zip(*values, strict=True)]


def _others(record: Mapping[str, Any]) -> list[Section]:
    """The model, what else is in the record, and all arguments."""
    plain = {name: value for name, value in record.items() if name not in _PLACED and not isinstance(value, Mapping)}
    nested = {name: value for name, value in record.items() if name not in _PLACED and isinstance(value, Mapping)}
    nested = {"model": record.get("model", {}), "run": plain, **nested, "arguments": record.get("arguments", {})}
    return [
        Section(
            title.replace("_", " ").capitalize(),
            # Tables inside a record are for programs; what stands at the top of the page is not said twice.
            [
                (name, _text(value))
                for name, value in facts.items()
                if not isinstance(value, Mapping) and name not in ("question", "sentence")
            ],
        )
        for title, facts in nested.items()
        if facts
    ]


def _deviations(edit: Mapping[str, Any]) -> str:
    return f"{'feature' if edit['method'] == 'h-space' else 'noise'} standard deviations"


def _number(value: float) -> str:
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _text(value: Any) -> str:
    """A value of a record in words."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
