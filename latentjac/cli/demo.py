"""``latentjac demo``: the main job from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentjac.arguments import check_left
from latentjac.cli import stages
from latentjac.cli.options import (
    FRAMES,
    Crop,
    Device,
    Distances,
    EditSteps,
    Frames,
    Gif,
    K,
    Layer,
    ModelName,
    Out,
    Refinement,
    Seed,
    Steps,
    T,
    Tol,
    parse_box,
    parse_numbers,
)
from latentjac.cli.run_folder import open_run

ASSET_PHOTO = Path(__file__).parent.parent / "assets" / "face.jpg"


def demo(
    context: typer.Context,
    photo: Annotated[Path | None, typer.Option(help="Your own photo; by default a face that ships along.")] = None,
    out: Out = Path("latentjac-demo"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 60,
    refinement: Refinement = 1,
    t: T = 0.7,
    k: K = 5,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    distance: Distances = "-6,-3,3,6",
    edit_steps: EditSteps = 16,
    gif: Gif = False,
    frames: Frames = FRAMES,
    seed: Seed = 0,
) -> None:
    """The main job from end to end: invert a face, find directions, walk along each both ways."""
    run = open_run(context, out, "demo", locals())
    if not gif:
        check_left("demo", "--frames", frames, FRAMES, "without --gif")
    distances, box = parse_numbers("--distance", distance), parse_box(crop)
    inverted = stages.invert_photo(run, model, device, photo or ASSET_PHOTO, box, steps, refinement)
    point, basis = stages.compute_basis(run, inverted, t, k, layer, tol, seed)
    result = stages.edit_and_draw(run, inverted, point, basis, list(range(k)), distances, edit_steps)
    if gif:
        stages.animate(run, inverted, point, result, frames)
    run.finish()
    print(
        f"\nLook at {out / 'index.html'} first. Then try:\n"
        "  latentjac demo --photo mine.jpg          your own photo (--crop left,top,right,bottom for the face)\n"
        "  latentjac demo --t 0.5                   a cleaner point: finer changes\n"
        "  latentjac edit PHOTO --direction 2 --distance -4,-2,2,4\n"
        "  latentjac --help"
    )
