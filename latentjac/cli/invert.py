"""``latentjac invert``: a photo taken to noise and back."""

from __future__ import annotations

from pathlib import Path

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    ClassLabel,
    Crop,
    Device,
    ModelName,
    Out,
    Photo,
    Prompt,
    Refinement,
    Steps,
    parse_crop,
)


def invert(
    context: typer.Context,
    photo: Photo,
    out: Out = Path("latentjac-invert"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
    prompt: Prompt = None,
    class_label: ClassLabel = None,
) -> None:
    """Invert a photo to noise, go back, and say how well that worked."""
    arguments = dict(locals())
    values.check_file("PHOTO", "a picture file", photo)
    from latentjac.cli import checks, stages
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run

    run = open_run(context, out, "invert", arguments)
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    loaded = stages.load_model(run, model, device)
    checks.check_prompts(loaded, prompt, class_label=class_label)
    checks.check_steps(loaded, steps)
    inverted = stages.invert_photo(run, loaded, picture, steps, refinement, prompt=prompt, class_label=class_label)
    stages.draw_inversion(run, inverted, steps)
    run.finish()
