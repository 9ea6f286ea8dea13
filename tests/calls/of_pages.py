"""Valid arguments of public functions: sliders of pages."""

from __future__ import annotations

from calls.things import Baseline, call
from PIL import Image

from latentjac import editing, report

PICTURES = [Image.new("RGB", (4, 4), colour) for colour in ("black", "orange", "white")]


def strip() -> report.Strip:
    return report.Strip("t", PICTURES, [-1.0, 0.0, 2.0])


BASELINES: dict[str, Baseline] = {
    "Strip": lambda c: call(
        report.Strip,
        title="t",
        images=PICTURES,
        distances=[-1.0, 0.0, 2.0],
        note="n",
        unit="u",
        linear_up_to=0.5,
        leakage=[0.5, 0.0, 0.25],
        mixed=[False, True, False],
        original=c.picture,
    ),
    "Strip.filled": lambda c: call(strip().filled, count=5),
    "edit_strips": lambda c: call(
        report.edit_strips, edit=c.edited, titles=["a", "b"], notes=["c", "d"], unchanged=c.picture
    ),
    "edit_strips/frames": lambda c: call(
        report.edit_strips,
        edit=c.edited,
        frames=[editing.Frames(PICTURES, (-0.2, 0.0, 0.1)) for _ in range(2)],
    ),
    "scrubber": lambda c: call(
        report.scrubber,
        strips=[strip()],
        original=c.picture,
        original_title="photo",
        start=0.5,
        side=16,
        assets=True,
    ),
    "scrubber_assets": lambda c: call(report.scrubber_assets),
}
