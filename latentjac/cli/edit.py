"""``latentjac edit``: a photo edited along directions of a basis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import latentjac
from latentjac.arguments import check_left
from latentjac.cli import stages
from latentjac.cli.options import (
    FRAMES,
    Crop,
    Device,
    EditPrompt,
    EditSteps,
    Frames,
    Gif,
    ModelName,
    Out,
    Photo,
    Prompt,
    Refinement,
    Seed,
    Tol,
    parse_box,
    parse_indices,
    parse_numbers,
)
from latentjac.cli.run_folder import open_run
from latentjac.compat import find_preset
from latentjac.edit.arguments import Options, check_options
from latentjac.models import open_image


def edit(
    context: typer.Context,
    photo: Photo,
    direction: Annotated[str, typer.Option(help="Directions, comma-separated, the first is 1.")] = "1",
    basis: Annotated[Path | None, typer.Option(help="Saved basis to take them from, instead of computing it.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="'guidance' follows differences of the predicted noise; 'linear' goes straight on; 'geodesic' goes "
            "straight on in the geometry of --layer; 'h-space' leaves the sample and adds to the output of --layer."
        ),
    ] = "guidance",
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture, white where the edit is meant to be, of the photo's size or the model's. Directions are "
            "then those of the predicted picture inside, and no step takes what the picture outside listens to most."
        ),
    ] = None,
    null_rank: Annotated[
        int | None,
        typer.Option(help="With --mask: how many directions of the outside no step takes; default: 5."),
    ] = None,
    null_energy: Annotated[
        float | None, typer.Option(help="Instead: the part of the outside's Jacobian they carry, such as 0.5.")
    ] = None,
    compose: Annotated[
        bool, typer.Option("--compose", help="Go along all directions at once; --distance has one number for each.")
    ] = False,
    reestimate: Annotated[
        int | None,
        typer.Option(help="With guidance: look the direction up in a new basis every so many steps; default: never."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Directions of the bases that geodesics and --reestimate follow.")] = 8,
    compat: Annotated[
        str | None,
        typer.Option(
            help="'pullback': invert, find directions and edit as the published code of Park et al. (2023) does, both "
            "ways along each direction; most other options are fixed then."
        ),
    ] = None,
    gain: Annotated[
        float | None, typer.Option(help="With --compat: gain of guidance; default: that of the published scripts.")
    ] = None,
    inject: Annotated[
        str, typer.Option(help="With h-space: add in every step 'below' the point, or only at the 'point' itself.")
    ] = "below",
    asymmetric: Annotated[
        bool, typer.Option("--asymmetric", help="With h-space: add for the predicted image only, not for the noise.")
    ] = False,
    transport: Annotated[
        str, typer.Option(help="With geodesic: carry directions as the 'paper' does, or by the 'pseudoinverse'.")
    ] = "paper",
    out: Out = Path("latentjac-edit"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Annotated[
        int | None, typer.Option(help="DDIM steps between photo and noise; default: those of --basis, or 100.")
    ] = None,
    refinement: Refinement = 1,
    t: Annotated[
        float | None,
        typer.Option(
            "--t", help="Noise level of the edit, a fraction of T: 1 is pure noise; default: that of --basis, or 0.7."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Feature map: 'mid' (h-space), a module name, 'eps' or 'x0'; default: 'mid', or 'x0' with --mask."
        ),
    ] = None,
    tol: Tol = 1e-3,
    distance: Annotated[
        str | None,
        typer.Option(
            help="Signed distances, comma-separated: noise standard deviations, default -6,-3,3,6, or with h-space "
            "standard deviations of the features, default -120,-60,60,120."
        ),
    ] = None,
    edit_steps: EditSteps = 16,
    gif: Gif = False,
    frames: Frames = FRAMES,
    seed: Seed = 0,
    prompt: Prompt = None,
    edit_prompt: EditPrompt = None,
) -> None:
    """Edit a photo along directions of its own basis, or of a saved one.

    A basis saved from one photo edits another: latentjac basis A.jpg --out a, then
    latentjac edit B.jpg --basis a/basis.safetensors.
    """
    run = open_run(context, out, "edit", locals())
    fixed = {
        "--distance": (distance, None),
        "--method": (method, "guidance"),
        "--mask": (mask, None),
        "--compose": (compose, False),
        "--reestimate": (reestimate, None),
        "--refinement": (refinement, 1),
        "--tol": (tol, 1e-3),
        "--gif": (gif, False),
    }
    find_preset("edit", compat, fixed)
    options: dict[str, Any] = {
        "method": method, "prompt": edit_prompt, "compose": compose, "null_rank": null_rank, "null_energy": null_energy,
        "reestimate": reestimate, "transport": transport, "k": k, "inject": inject, "asymmetric": asymmetric,
        "compat": compat, "gain": gain,
    }  # fmt: skip
    # Before minutes go by.
    check_options(Options(num_steps=edit_steps, masked=mask is not None, **options))
    if not gif:
        check_left("edit", "--frames", frames, FRAMES, "without --gif")
    distance = distance or ("-120,-60,60,120" if method == "h-space" else "-6,-3,3,6")
    distances, chosen = parse_numbers("--distance", distance, distinct=not compose), parse_indices(direction)
    box = parse_box(crop)
    drawn = None if mask is None else open_image(mask)
    loaded = latentjac.LocalBasis.load(basis) if basis else None
    if loaded is not None:
        if max(chosen) >= loaded.k:
            raise ValueError(f"--direction: expected numbers in [1, {loaded.k}] ({basis}), got {direction!r}")
        check_left("edit", "--tol", tol, 1e-3, "with --basis")
        if not compat:
            check_left("edit", "--seed", seed, 0, "with --basis")
        steps, t = stages.place_of_basis(loaded, steps, t)
    steps, t = 100 if steps is None else steps, 0.7 if t is None else t
    run.record["arguments"].update(steps=steps, t=t)
    inverted = stages.invert_photo(run, model, device, photo, box, steps, refinement, compat, prompt)
    inside = None if drawn is None else stages.read_mask(drawn, photo, box, inverted.model.sample_shape[-1])
    if loaded is None:
        layer = layer or ("mid" if inside is None or method == "h-space" else "x0")
        part = inside if layer in ("x0", "eps") else None
        point, loaded = stages.compute_basis(
            run, inverted, t, max(chosen) + 1, layer, tol, seed, part, compat, edit_prompt
        )
    else:
        point = stages.point_of(run, inverted, loaded, t)
        layer = layer or loaded.metadata.get("layer")
    noise = torch.Generator().manual_seed(seed) if compat and not point.conditioning else None
    result = stages.edit_and_draw(
        run, inverted, point, loaded, chosen, None if compat else distances, edit_steps,
        mask=inside, layer=layer, generator=noise, **options,
    )  # fmt: skip
    if compose:
        run.picture("composed.png", f"directions {direction}, distances {distance}", result.images[0])
    else:
        for row, i in enumerate(chosen):
            for column, d in enumerate(result.distances):
                name = f"direction{i + 1}_{d:+g}.png"
                run.picture(name, f"direction {i + 1}, distance {d:+g}", result.image(row, column))
    if gif:
        stages.animate(run, inverted, point, result, frames)
    run.finish()
