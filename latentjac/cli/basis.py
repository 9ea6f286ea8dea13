"""``latentjac basis``: the local basis of a photo."""

from __future__ import annotations

from pathlib import Path

import typer

from latentjac.cli import stages
from latentjac.cli.options import (
    Crop,
    Device,
    EditPrompt,
    K,
    Layer,
    ModelName,
    Out,
    Photo,
    Prompt,
    Refinement,
    Seed,
    Steps,
    T,
    Tol,
    parse_box,
)
from latentjac.cli.run_folder import open_run


def basis(
    context: typer.Context,
    photo: Photo,
    out: Out = Path("latentjac-basis"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
    t: T = 0.7,
    k: K = 8,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    seed: Seed = 0,
    prompt: Prompt = None,
    edit_prompt: EditPrompt = None,
) -> None:
    """Compute the local basis of a photo at one noise level and save it."""
    run = open_run(context, out, "basis", locals())
    inverted = stages.invert_photo(run, model, device, photo, parse_box(crop), steps, refinement, prompt=prompt)
    stages.compute_basis(run, inverted, t, k, layer, tol, seed, prompt=edit_prompt)
    run.finish()
