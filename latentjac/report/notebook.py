"""Results as HTML, for the output of a notebook cell."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import torch
from markupsafe import Markup, escape
from PIL import Image

from latentjac.diffusion import Trajectory
from latentjac.editing import Edit
from latentjac.models import to_pil
from latentjac.report.edit_strips import edit_strips
from latentjac.report.scrubber import scrubber
from latentjac.report.sheet import direction_image
from latentjac.solvers import LocalBasis

_MOST = 12  # thumbnails
_SIDE = 128


def html_of(result: object) -> str | None:
    """HTML of an edit, a basis or a trajectory; None of anything else."""
    if isinstance(result, Edit):
        return _edit(result)
    if isinstance(result, LocalBasis):
        return _basis(result)
    return _trajectory(result) if isinstance(result, Trajectory) else None


def _edit(edit: Edit) -> str | None:
    """Sliders, or pictures where there is one a direction; the original is that at distance 0, if there is one."""
    if not edit.images:
        return None
    facts = [type(edit.method).__name__, f"{edit.num_steps} steps a walk"]
    if edit.status is not None:
        facts.append(edit.status.value)
    strips = edit_strips(edit)
    if strips:
        zero = edit.distances.index(0.0) if 0.0 in edit.distances and not edit.composed else None
        original = None if zero is None else edit.image(0, zero)
        sliders = scrubber(strips, original=original, original_title="unchanged")
        return _titled("Edit", facts, sliders)
    distance = "" if edit.composed else f", distance {edit.distances[0]:+g}"
    named = [(image, f"direction {i + 1}{distance}") for i, image in enumerate(edit.images)]
    return _titled("Edit", facts, _pictures(named[:_MOST]))


def _basis(basis: LocalBasis) -> str:
    """The spectrum, and the directions with their singular values and residuals."""
    one, facts = basis.point(0), [basis.status.value]
    if basis.points > 1:
        facts.append(f"the first of {basis.points} points")
    facts += [f"{name} {basis.metadata[name]}" for name in ("layer", "timestep") if name in basis.metadata]
    facts.append(f"{basis.jvps} JVPs + {basis.vjps} VJPs in {basis.seconds:.2f} s")
    s, residuals = one.s.tolist(), one.residuals.tolist()
    captions = [f"{i}: s = {a:.4g}, residual {r:.1e}" for i, (a, r) in enumerate(zip(s, residuals, strict=True), 1)]
    thumbnails = [direction_image(v) for v in one.v[:_MOST]] if _drawable(one.v[0]) else []
    drawn = _pictures(list(zip(thumbnails, captions, strict=False)))
    if not thumbnails:
        drawn = Markup("<p>{}</p>").format("; ".join(captions[:_MOST]))
    return _titled(f"Local basis of {basis.k} directions", facts, _spectrum(s, residuals) + drawn)


def _trajectory(path: Trajectory) -> str:
    """Samples on the way from the picture to noise, and the reconstruction of the first picture."""
    status = path.status[0]
    facts = [f"round trip {path.psnr[0]:.1f} dB", f"{path.evaluations} network evaluations"]
    if not status.fine:
        facts.append(status.value)
    if path.error:
        facts.append(f"error of the last sample {path.error[0]:.2g}")
    if len(path.psnr) > 1:
        facts.append(f"the first of {len(path.psnr)} pictures")
    if not _drawable(path.samples[0, 0]):
        return _titled("Trajectory", facts, "")
    top = path.schedule.top
    levels = sorted({round(i * top / 6) for i in range(7)})
    named = []
    for level in levels:
        size = math.hypot(path.schedule.signals[level], path.schedule.noises[level])
        t = path.schedule.timesteps[level] / path.schedule.num_train_timesteps
        named.append((_sample(path.samples[level, 0] / size), f"t = {t:.2f}"))
    named.append((_sample(path.reconstruction[0]), "reconstruction"))
    return _titled("Trajectory", facts, _pictures(named))


def _drawable(values: torch.Tensor) -> bool:
    return values.ndim in (3, 4) and values.numel() > 0 and bool(torch.isfinite(values).all())


def _sample(x: torch.Tensor) -> Image.Image:
    """A sample ``[C, H, W]`` as a picture; of a video the middle frame, and of latents their strongest channels."""
    if x.ndim == 4:
        x = x[:, x.shape[1] // 2]
    if len(x) in (1, 3):
        return to_pil((x.float().cpu() / 2 + 0.5).clamp(0, 1)[None])[0]
    return direction_image(x)


def _titled(title: str, facts: Sequence[str], content: str) -> str:
    head = Markup("<p><b>{}</b><br>{}</p>").format(title, ", ".join(facts))
    return f"<div>{head}{content}</div>"


def _pictures(named: Sequence[tuple[Image.Image, str]]) -> Markup:
    """Pictures in a row, with what they are."""
    one = (
        '<figure style="margin:0;width:{}px"><img alt="{}" src="data:image/png;base64,{}" '
        'style="width:100%;margin:0"><figcaption style="font-size:.8em">{}</figcaption></figure>'
    )
    figures = [Markup(one).format(_SIDE, what, _png(image), what) for image, what in named]
    return Markup('<div style="display:flex;flex-wrap:wrap;gap:8px">{}</div>').format(Markup("").join(figures))


def _png(image: Image.Image) -> str:
    picture, buffer = image.convert("RGB"), io.BytesIO()
    picture.thumbnail((2 * _SIDE, 2 * _SIDE))
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _spectrum(s: Sequence[float], residuals: Sequence[float]) -> Markup:
    """Singular values as bars; those that are not finite are left out."""
    width, height = 480, 110
    top, step = max((value for value in s if math.isfinite(value)), default=0.0) or 1.0, width / len(s)
    bars = [
        f'<rect x="{i * step:.2f}" y="{height - height * value / top:.2f}" width="{min(0.8 * step, 40):.2f}" '
        f'height="{height * value / top:.2f}" fill="#3b82c4"></rect>'
        for i, value in enumerate(s)
        if math.isfinite(value)
    ]
    says = escape(f"singular values from {s[0]:.4g} to {s[-1]:.4g}, largest residual {max(residuals):.1e}")
    return Markup(
        f'<svg role="img" aria-label="{says}" viewBox="0 0 {width} {height}" width="{width}" '
        f'style="max-width:100%;height:auto">{"".join(bars)}</svg><p style="font-size:.875em;margin:.2em 0">{says}</p>'
    )
