"""``latentjac basis``: the local basis of a photo."""

from __future__ import annotations

from pathlib import Path

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    STEPS_BELOW,
    ClassLabel,
    Crop,
    Device,
    EditPrompt,
    Grid,
    K,
    Layer,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelName,
    ModelSize,
    Out,
    Photo,
    Prompt,
    Refinement,
    Seed,
    Solver,
    Steps,
    T,
    Tol,
    parse_crop,
)
from latentjac.cli.pictures import NO_PICTURES, Pictures, with_pictures


@with_pictures
def basis(
    context: typer.Context,
    photo: Photo,
    out: Out = Path("latentjac-basis"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = STEPS_BELOW,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    refinement: Refinement = None,
    t: T = 0.7,
    k: K = 8,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    seed: Seed = 0,
    prompt: Prompt = None,
    edit_prompt: EditPrompt = None,
    class_label: ClassLabel = None,
    size: ModelSize = None,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
    pictures: Pictures = NO_PICTURES,
) -> None:
    """Compute the local basis of a photo at one noise level and save it."""
    arguments = dict(locals())
    values.check_file("PHOTO", "a picture file", photo)
    from latentjac.cli import beside, checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run

    how = inversion_of(steps, t, grid, solver, refinement)
    pictures.check_files()
    run = open_run(context, out, "basis", arguments)
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    given = beside.read_beside(picture, pictures)
    loaded = stages.load_model(run, model, device, size, config, lora, ip_adapter)
    under = checks.check_prompts(loaded, prompt, edit_prompt, class_label, given)
    place = checks.check_place(loaded, how, t, layer)
    checks.check_count("-k", k, place.triplets)
    inverted = stages.invert_photo(run, loaded, picture, how, conditioning=under)
    stages.compute_basis(run, inverted, t, k, layer, tol, seed, prompt=edit_prompt)
    run.finish()
