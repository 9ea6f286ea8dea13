"""``latentjac demo``: the main job from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import latentjac
from latentjac.cli import values
from latentjac.cli.options import (
    FRAMES,
    STEPS_BELOW,
    Crop,
    Device,
    Distances,
    EditSteps,
    Frames,
    Gif,
    Grid,
    K,
    Layer,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelName,
    Out,
    Refinement,
    Residual,
    Seed,
    Solver,
    Steps,
    T,
    Tol,
    option,
    parse_crop,
    parse_distances,
)

ASSET_PHOTO = Path(__file__).parent.parent / "assets" / "face.jpg"


def demo(
    context: typer.Context,
    photo: Annotated[
        Path | None,
        option("--photo", values.file, "a picture file", help="Your own photo; default: a face that ships along."),
    ] = None,
    out: Out = Path("latentjac-demo"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = STEPS_BELOW,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    refinement: Refinement = None,
    t: T = 0.7,
    k: K = 5,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    distance: Distances = "-6,-3,3,6",
    edit_steps: EditSteps = None,
    residual: Residual = True,
    gif: Gif = False,
    frames: Frames = FRAMES,
    seed: Seed = 0,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
) -> None:
    """The main job from end to end: invert a face, find directions, walk along each both ways."""
    arguments = dict(locals())
    values.check_file("--photo", "a picture file", photo)
    from latentjac.cli import checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run

    checks.check_frames(gif, frames)
    distances = parse_distances(distance)
    how = inversion_of(steps, t, grid, solver, refinement)
    run = open_run(context, out, "demo", arguments)
    picture = read_photo("--photo", photo or ASSET_PHOTO, parse_crop(crop))
    loaded = stages.load_model(run, model, device, config=config, lora=lora, ip_adapter=ip_adapter)
    place = checks.check_place(loaded, how, t, layer)
    checks.check_count("-k", k, place.triplets)
    inverted = stages.invert_photo(run, loaded, picture, how)
    point, basis = stages.compute_basis(run, inverted, t, k, layer, tol, seed)
    method = latentjac.editing.Guidance(num_steps=edit_steps)
    result = stages.edit_and_draw(run, inverted, point, basis, list(range(k)), distances, method, residual=residual)
    made = stages.draw_ways(run, inverted, point, result, frames, gif)
    stages.draw_sliders(run, inverted, basis, result, list(range(k)), made)
    run.finish()
    print(
        f"\nLook at {out / 'index.html'} first. Then try:\n"
        "  latentjac demo --photo mine.jpg          your own photo (--crop left,top,right,bottom for the face)\n"
        "  latentjac demo --t 0.5                   a cleaner point: finer changes\n"
        "  latentjac edit PHOTO --direction 2 --distance -4,-2,2,4\n"
        "  latentjac --help"
    )
