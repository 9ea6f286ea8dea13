"""What a visitor takes along: a page with sliders, pictures and animations."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.explore import pieces
from latentjac.explore.lines import Line
from latentjac.explore.session import Session
from latentjac.files import write_bytes
from latentjac.report import Row, contact_sheet, direction_image, versions, walk_gif, write_png
from latentjac.solvers import Status


def gif(session: Session, index: int) -> Path:
    """The way along a line and back, as an animation.

    Raises:
        ValueError: If there is no such line.
    """
    line = session.line(index)
    return write_bytes(session.file(line.title, ".gif"), walk_gif(list(line.images)))


def sheet(session: Session) -> Path:
    """A picture of all lines: a row each.

    Raises:
        ValueError: If there are none.
    """
    return write_png(session.file("directions", ".png"), _sheet(session))


def page(session: Session) -> Path:
    """A zip with a page of all sliders, which needs neither a server nor a network, and with what it was made of.

    Raises:
        ValueError: If there are no lines.
    """
    picture, buffer = _sheet(session), io.BytesIO()
    way, found = session.way, session.found
    assert way is not None
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.html", pieces.exported(session))
        archive.writestr("explore.json", json.dumps(_record(session), indent=2) + "\n")
        pictures = {"sheet": picture, "photo": way.picture, "reconstruction": way.back}
        if session.composed is not None:
            pictures["composed"] = session.composed[0]
        for name, image in pictures.items():
            archive.writestr(f"{name}.png", _png(image))
        if found is not None:
            archive.write(found.basis.save(session.file("basis", ".safetensors")), "basis.safetensors")
        for i, kept in enumerate(session.kept):
            archive.write(kept.path, f"sliders/{i + 1}-{kept.path.name}")
    return write_bytes(session.file("latentjac-explore", ".zip"), buffer.getvalue())


def _sheet(session: Session) -> Image.Image:
    lines, way = session.lines, session.way
    if not lines or way is None:
        raise ValueError("Find directions first.")
    psnr = f"{way.trajectory.psnr[0]:.1f} dB"
    rows = [Row("photo", way.trajectory.status[0].name.lower(), [way.picture, way.back], ["photo", psnr])]
    for line in lines:
        marks = [f"{mark:+.3g}" if mark else "0" for mark in line.marks]
        rows.append(Row(line.title, line.note, list(line.images), marks, _thumbnail(line)))
    return contact_sheet(rows, heading=f"{session.shared.model.name}: walks from one photo")


def _thumbnail(line: Line) -> Image.Image | None:
    fits = line.direction.ndim == 3 and line.values is None
    return direction_image(line.direction) if fits else None


def _record(session: Session) -> dict[str, Any]:
    """What the lines were made of, and what was measured."""
    shared, photo, way, found = session.shared, session.photo, session.way, session.found
    assert photo is not None
    assert way is not None
    record: dict[str, Any] = {
        "model": {"name": shared.model.name, "identity": shared.model.identity()},
        "photo": {"name": photo.name, "box": list(photo.box), "psnr_db": way.trajectory.psnr[0]},
        "steps": shared.steps,
        "seed": shared.seed,
        "versions": versions(),
    }
    if found is not None:
        question, basis = found.question, found.basis
        record["basis"] = {
            "t": found.walker.point.t, "layer": basis.metadata["layer"], "words": question.words,
            "mask_pixels": None if question.mask is None else int(question.mask.sum()),
            "status": Status(basis.status).value, "singular_values": basis.s.tolist(),
            "residuals": basis.residuals.tolist(),
        }  # fmt: skip
    record["lines"] = [
        {"title": line.title, "marks": list(line.marks), "linear_up_to": line.linear_up_to} for line in session.lines
    ]
    return record


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
