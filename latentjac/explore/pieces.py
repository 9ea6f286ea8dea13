"""Pieces of the page as HTML; none knows how the page is served."""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from latentjac.diffusion.trajectory import LEAST_PSNR
from latentjac.explore.jobs import Job
from latentjac.explore.lines import Line
from latentjac.explore.session import Session
from latentjac.explore.state import Found, Photo, Shared, Way
from latentjac.report import Strip, scrubber

_FOLDER = Path(__file__).parent
_PREVIEW = 1024  # longest side of a photo in the browser
_THUMBNAIL = 96
_LARGE = 384
_CODED = 3.0  # dB between a reconstruction with and without an autoencoder, from which on the page has both
PAINT = "rgba(59, 130, 196, 0.65)"  # of masks


def head(shared: Shared) -> str:
    """What the page is and which model it shows."""
    height, width = shared.shape
    return _piece("head", shared.model.name, f"{width}×{height}", str(shared.model.device), shared.steps)


def title(text: str) -> str:
    """The heading of a part of the page."""
    return f'<h2 class="lje-title">{escape(text)}</h2>'


def crop(photo: Photo | None, shared: Shared) -> str:
    """The photo with the frame of its part that is used; nothing before there is one."""
    if photo is None:
        return ""
    width, height = photo.whole.image.size
    tall, wide = shared.shape
    source = data_uri(photo.whole.image, _PREVIEW, quality=85)
    return _piece("crop", photo.name, source, width, height, photo.box, wide / tall, photo.whole.notes)


def reconstruction(way: Way | None) -> str:
    """The photo beside its way to noise and back."""
    if way is None:
        return ""
    path = way.trajectory
    sources = (data_uri(enlarged(image, _LARGE)) for image in (way.picture, way.back))
    seen = _psnr(way.picture, way.back)
    coded = f"{seen:.1f}" if path.psnr[0] - seen > _CODED else ""
    status = path.status[0].value, path.status[0].fine
    return _piece("reconstruction", *sources, f"{path.psnr[0]:.1f}", *status, coded, seen < LEAST_PSNR)


def _psnr(one: Image.Image, other: Image.Image) -> float:
    """In dB; of equal pictures that of a difference below all that 8 bits tell."""
    difference = (np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)) / 255
    return float(-10 * np.log10(max(np.square(difference).mean(), 1e-6)))


def strip(way: Way | None, chosen: int) -> str:
    """Noise levels to choose from, each with the sample there."""
    if way is None:
        return ""
    schedule = way.trajectory.schedule
    levels = [
        {
            "number": number,
            "t": f"{schedule.timesteps[number] / schedule.num_train_timesteps:.2f}",
            "source": data_uri(enlarged(picture, _THUMBNAIL), _THUMBNAIL),
        }
        for number, picture in enumerate(way.levels)
        if number
    ]
    return _piece("strip", levels, chosen)


def status(job: Job | None, message: str = "", *, bad: bool = False) -> str:
    """What computes and how far it is; else what went wrong, or was stopped; else a message."""
    if job is not None and job.running:
        return _piece("status", job.report.stage, job.report.done, job.report.total, "", False)
    if job is not None and not bad and (job.error or job.stopped):
        message = job.error or "Stopped. What was finished before is here."
        bad = bool(job.error)
    return _piece("status", "", 0, None, message, bad)


def hint(session: Session | None) -> str:
    """What to do next."""
    if session is None or session.photo is None:
        return "Drop a photo to begin."
    if session.way is None:
        return "Set the frame on the photo, then press Invert."
    if not session.lines:
        return "Choose a noise level, then press Find directions."
    return "Move the sliders. Several together: Compose."


def facts(found: Found | None, lines: tuple[Line, ...]) -> str:
    """Where directions were found, and how well."""
    if found is None:
        return ""
    basis = found.basis
    residual, psnr = f"{basis.residuals.max().item():.1e}", f"{lines[0].photo_psnr:.1f}" if lines else ""
    words = found.question.words
    return _piece(
        "facts", f"{found.walker.point.t:.2f}", basis.metadata["layer"], basis.status.value, residual, psnr, words
    )


def line(drawn: Line, original: Image.Image) -> str:
    """A slider through the pictures of a line; style and script of sliders stand elsewhere on the page.

    It stands at 0 at first, so that Compose follows only the directions whose sliders were moved.
    """
    photo = enlarged(original, _LARGE)
    return scrubber([_strip(drawn)], original=photo, original_title="photo", start=0.0, assets=False)


def exported(session: Session) -> str:
    """A whole document with all sliders, which loads nothing."""
    assert session.way is not None
    original = enlarged(session.way.picture, _LARGE)
    sliders = scrubber([_strip(drawn) for drawn in session.lines], original=original, original_title="photo")
    about = facts(session.found, session.lines) + reconstruction(session.way) + composed(session.composed)
    return _piece("exported", session.shared.model.name, Markup(about), Markup(sliders)) + "\n"


def _strip(drawn: Line) -> Strip:
    images = [enlarged(image, _LARGE) for image in drawn.images]
    leakage = None if drawn.leakage is None else list(drawn.leakage)
    saved = drawn.values is not None
    unit, linear = ("of the slider", None) if saved else (drawn.walker.method.unit, drawn.linear_up_to)
    return Strip(drawn.title, images, drawn.marks, note=drawn.note, unit=unit, linear_up_to=linear, leakage=leakage)


def composed(made: tuple[Image.Image, dict[str, float]] | None) -> str:
    """The picture at the end of a walk along several directions."""
    if made is None:
        return ""
    image, distances = made
    source = data_uri(enlarged(image, _LARGE))
    return _piece("composed", source, "", [(name, f"{distance:+.3g}") for name, distance in distances.items()])


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """A small picture smoothly enlarged to a longer side, so that no browser shows its pixels; a large one as it is."""
    factor = side / max(image.size)
    if factor <= 1:
        return image
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def painted(mask: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    """A mask as it was painted, of a width and a height."""
    inside = Image.fromarray(mask.cpu().numpy()).resize(size, Image.Resampling.NEAREST).convert("L")
    layer = Image.new("RGBA", size, (59, 130, 196))
    layer.putalpha(inside.point(lambda value: 166 if value else 0))
    return layer


def data_uri(image: Image.Image, side: int = _LARGE, *, quality: int = 90) -> str:
    """A picture of a longer side at most, as a WebP that stands in the page itself."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")


@cache
def _pieces() -> Any:
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, **options).get_template("pieces.html").module


def _piece(name: str, *values: Any) -> str:
    return str(getattr(_pieces(), name)(*values)).strip()
