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
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelName,
    ModelSize,
    Out,
    Photo,
    Prompt,
    Refinement,
    Solver,
    Steps,
    parse_crop,
)
from latentjac.cli.pictures import NO_PICTURES, Pictures, with_pictures


@with_pictures
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
    size: ModelSize = None,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
    pictures: Pictures = NO_PICTURES,
) -> None:
    """Invert a photo to noise, go back, and say how well that worked."""
    arguments = dict(locals())
    values.check_file("PHOTO", "a picture file", photo)
    from latentjac.cli import beside, checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run

    how = inversion_of(steps, 1.0, grid, solver, refinement)
    pictures.check_files()
    run = open_run(context, out, "invert", arguments)
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    given = beside.read_beside(picture, pictures)
    loaded = stages.load_model(run, model, device, size, config, lora, ip_adapter)
    under = checks.check_prompts(loaded, prompt, class_label=class_label, beside=given)
    checks.check_steps(loaded, how)
    inverted = stages.invert_photo(run, loaded, picture, how, conditioning=under)
    stages.draw_inversion(run, inverted, steps)
    run.finish()
