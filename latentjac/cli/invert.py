"""``latentjac invert``: a photo taken to noise and back."""

from __future__ import annotations

from pathlib import Path

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    STEPS,
    ClassLabel,
    Crop,
    Device,
    Grid,
    ModelName,
    Out,
    Photo,
    Prompt,
    Refinement,
    Solver,
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
    steps: Steps = STEPS,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    refinement: Refinement = None,
    prompt: Prompt = None,
    class_label: ClassLabel = None,
) -> None:
    """Invert a photo to noise, go back, and say how well that worked."""
    arguments = dict(locals())
    values.check_file("PHOTO", "a picture file", photo)
    from latentjac.cli import checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run

    how = inversion_of(steps, 1.0, grid, solver, refinement)
    run = open_run(context, out, "invert", arguments)
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    loaded = stages.load_model(run, model, device)
    checks.check_prompts(loaded, prompt, class_label=class_label)
    checks.check_steps(loaded, how)
    inverted = stages.invert_photo(run, loaded, picture, how, prompt=prompt, class_label=class_label)
    stages.draw_inversion(run, inverted, steps)
    run.finish()
